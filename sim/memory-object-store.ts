import { lengthOf } from "../src/base/bytes.ts";
import { type ObjectStore, ObjectStoreError, type StoredBytes } from "../src/host/object-store.ts";

export type ObjectOperation = "put" | "get" | "head" | "list" | "remove";

/** What becomes of one request. */
export type ObjectFault =
  /** It never arrived. */
  | "lost-request"
  /** It was carried out, and nobody was told. */
  | "lost-answer"
  /** Of a put: it was carried out, and the answer is 409 all the same. */
  | "conflict"
  /** Of a put: it was carried out, repeated on the way, and the answer is to the second: 412. */
  | "repeated";

export interface ObjectEvent {
  operation: ObjectOperation;
  key: string;
}

interface Stored {
  bytes: Uint8Array;
  nonce: string;
}

/**
 * A bucket in memory, which outlives the machines that use it. Faults are decided request by request.
 * A request takes effect when it is answered, and not before: others may come in between.
 */
export class MemoryBucket {
  readonly objects = new Map<string, Stored>();
  readonly counts = new Map<ObjectOperation, number>();
  decide: (event: ObjectEvent) => ObjectFault | undefined = () => undefined;
  /** Waited for by each request. */
  delay: () => Promise<void> = () => Promise.resolve();

  open(): ObjectStore {
    return new MemoryObjectStore(this);
  }
}

class MemoryObjectStore implements ObjectStore {
  readonly url = "s3://memory";
  readonly #bucket: MemoryBucket;

  constructor(bucket: MemoryBucket) {
    this.#bucket = bucket;
  }

  put(key: string, chunks: readonly Uint8Array[], nonce: string): Promise<void> {
    return this.#request("put", key, (fault) => {
      const { objects } = this.#bucket;
      const isThere = objects.has(key);
      if (!isThere) objects.set(key, { bytes: Buffer.concat(chunks, lengthOf(chunks)), nonce });
      if (fault === "conflict") throw failed("unavailable", key, "ConditionalRequestConflict");
      if (isThere || fault === "repeated") throw failed("exists", key, "PreconditionFailed");
    });
  }

  get(key: string, range?: { offset: number; length: number }): Promise<StoredBytes> {
    return this.#request("get", key, () => {
      const { bytes } = this.#find(key);
      if (range === undefined) return { bytes: new Uint8Array(bytes), totalBytes: bytes.length };
      if (range.length > 0 && range.offset >= bytes.length) {
        throw failed("refused", key, "InvalidRange");
      }
      const part = bytes.subarray(range.offset, range.offset + range.length);
      return { bytes: new Uint8Array(part), totalBytes: bytes.length };
    });
  }

  head(key: string): Promise<{ nonce: string | undefined; sizeBytes: number }> {
    return this.#request("head", key, () => {
      const { bytes, nonce } = this.#find(key);
      return { nonce, sizeBytes: bytes.length };
    });
  }

  list(query: { prefix: string; after: string; max: number }): Promise<string[]> {
    return this.#request("list", query.prefix, () =>
      [...this.#bucket.objects.keys()]
        .filter((key) => key.startsWith(query.prefix) && key > query.after)
        .sort()
        .slice(0, query.max),
    );
  }

  remove(keys: readonly string[]): Promise<void> {
    return this.#request("remove", keys[0] ?? "", () => {
      for (const key of keys) this.#bucket.objects.delete(key);
    });
  }

  async close(): Promise<void> {}

  #find(key: string): Stored {
    const stored = this.#bucket.objects.get(key);
    if (stored === undefined) throw failed("not-found", key, "NoSuchKey");
    return stored;
  }

  async #request<T>(
    operation: ObjectOperation,
    key: string,
    effect: (fault: ObjectFault | undefined) => T,
  ): Promise<T> {
    const { counts } = this.#bucket;
    counts.set(operation, (counts.get(operation) ?? 0) + 1);
    await this.#bucket.delay();
    const fault = this.#bucket.decide({ operation, key });
    if (fault === "lost-request") throw failed("unavailable", key, "ECONNRESET");
    const result = effect(fault);
    if (fault === "lost-answer") throw failed("unavailable", key, "ECONNRESET");
    return result;
  }
}

function failed(
  failure: ConstructorParameters<typeof ObjectStoreError>[0],
  key: string,
  reason: string,
): ObjectStoreError {
  return new ObjectStoreError(failure, `${key}: ${reason}`, { reason });
}
