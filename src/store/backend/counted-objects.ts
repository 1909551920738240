import { lengthOf } from "../../base/bytes.ts";
import type { ObjectStore } from "../../host/object-store.ts";

export type RequestKind = "put" | "get" | "head" | "list" | "delete";

export interface RequestCount {
  requests: number;
  /** Of these, how many got no answer, or one other than asked for. */
  failures: number;
  /** Of bodies, sent or received. */
  bytes: number;
}

export type RequestCounts = Record<RequestKind, RequestCount>;

/** Counts requests by kind, because people pay for them. */
export class CountedObjects implements ObjectStore {
  readonly url: string;
  readonly counts: RequestCounts;
  readonly #objects: ObjectStore;

  constructor(objects: ObjectStore) {
    this.url = objects.url;
    this.#objects = objects;
    const none = (): RequestCount => ({ requests: 0, failures: 0, bytes: 0 });
    this.counts = { put: none(), get: none(), head: none(), list: none(), delete: none() };
  }

  put(key: string, chunks: readonly Uint8Array[], nonce: string): Promise<void> {
    const size = () => lengthOf(chunks);
    return this.#count("put", () => this.#objects.put(key, chunks, nonce), size);
  }

  get(...args: Parameters<ObjectStore["get"]>): ReturnType<ObjectStore["get"]> {
    return this.#count(
      "get",
      () => this.#objects.get(...args),
      ({ bytes }) => bytes.length,
    );
  }

  head(key: string): ReturnType<ObjectStore["head"]> {
    return this.#count("head", () => this.#objects.head(key));
  }

  list(query: Parameters<ObjectStore["list"]>[0]): Promise<string[]> {
    return this.#count("list", () => this.#objects.list(query));
  }

  remove(keys: readonly string[]): Promise<void> {
    return this.#count("delete", () => this.#objects.remove(keys));
  }

  close(): Promise<void> {
    return this.#objects.close();
  }

  async #count<T>(
    kind: RequestKind,
    request: () => Promise<T>,
    bytesOf: (result: T) => number = () => 0,
  ): Promise<T> {
    const count = this.counts[kind];
    count.requests++;
    try {
      const result = await request();
      count.bytes += bytesOf(result);
      return result;
    } catch (error) {
      count.failures++;
      throw error;
    }
  }
}
