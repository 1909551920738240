import { KelpieError, messageOf } from "../../base/errors.ts";
import type { Clock } from "../../host/clock.ts";
import type { Log } from "../../host/log.ts";
import {
  isObjectStoreError,
  type ObjectStore,
  type ObjectStoreError,
} from "../../host/object-store.ts";
import type { RandomSource } from "../../host/random.ts";
import type { Timers } from "../../host/timers.ts";
import type { Backend, ByteRange, ObjectReader, PutOutcome } from "./backend.ts";
import { checkKey } from "./keys.ts";

export interface S3BackendSettings {
  /** How long a request is repeated that gets no answer, before it fails. */
  giveUpMs?: number;
}

export interface S3BackendComponents {
  objects: ObjectStore;
  clock: Clock;
  timers: Timers;
  random: RandomSource;
  log: Log;
}

/** Long enough for an object store that is started again, or a network that is repaired by a person. */
const defaultGiveUpMs = 15 * 60_000;
/** Once the store is closing. */
const hastenedMs = 10_000;
/** Pause before a request is repeated; doubles up to the last. */
const pauseFirstMs = 50;
const pauseLastMs = 2_000;
const listedMax = 1_000;

/** Of what is refused, what may be put right while we wait: credentials run out, clocks are set. */
const passingReasons = new Set([
  "AccessDenied",
  "CredentialsProviderError",
  "ExpiredToken",
  "InvalidAccessKeyId",
  "InvalidToken",
  "RequestTimeTooSkewed",
  "SignatureDoesNotMatch",
  "TokenRefreshRequired",
]);

/**
 * An S3-compatible store as a backend. What gets no answer is asked again, so that an object store that
 * is gone for a while is a wait and not a failure.
 *
 * A put goes with a nonce. Every answer but a clean success leaves open whether it took effect, and so
 * the key is looked at: our nonce there means that it did. If nothing is there it is put again, with
 * the same nonce, because the first may land yet.
 */
export class S3Backend implements Backend {
  readonly #components: S3BackendComponents;
  readonly #giveUpMs: number;
  readonly #inFlight = new Set<Promise<unknown>>();
  #deadlineMs = Number.POSITIVE_INFINITY;
  #closed = false;

  constructor(settings: S3BackendSettings, components: S3BackendComponents) {
    this.#giveUpMs = settings.giveUpMs ?? defaultGiveUpMs;
    this.#components = components;
  }

  putIfAbsent(key: string, chunks: readonly Uint8Array[]): Promise<PutOutcome> {
    return this.#run([key], () => this.#put(key, chunks));
  }

  get(key: string, range?: ByteRange): Promise<Uint8Array> {
    return this.#run([key], async () => {
      const { bytes } = await this.#repeat("get", key, () =>
        this.#components.objects.get(key, range),
      );
      if (range === undefined || bytes.length === range.length) return bytes;
      throw new KelpieError("io", `${key}: it ends before byte ${range.offset + range.length}`);
    });
  }

  /** What there is of a range, and the size of the object. */
  getPart(key: string, range: ByteRange): Promise<{ bytes: Uint8Array; totalBytes: number }> {
    return this.#run([key], () =>
      this.#repeat("get", key, () => this.#components.objects.get(key, range)),
    );
  }

  async sizeOf(key: string): Promise<number> {
    const { sizeBytes } = await this.#run([key], () =>
      this.#repeat("head", key, () => this.#components.objects.head(key)),
    );
    return sizeBytes;
  }

  async open(key: string): Promise<ObjectReader> {
    const sizeBytes = await this.sizeOf(key);
    return {
      tryRead: () => false,
      read: async (target, position) => {
        const length = Math.min(target.length, Math.max(0, sizeBytes - position));
        target.set(await this.get(key, { offset: position, length }));
        return length;
      },
      size: async () => sizeBytes,
      close: async () => {},
    };
  }

  list(prefix: string, after = ""): Promise<string[]> {
    const directory = prefix.slice(0, Math.max(0, prefix.lastIndexOf("/")));
    return this.#run(directory === "" ? [] : [directory], () =>
      this.#repeat("list", prefix, () =>
        this.#components.objects.list({ prefix, after, max: listedMax }),
      ),
    );
  }

  delete(key: string): Promise<void> {
    return this.deleteAll([key]);
  }

  async deleteAll(keys: readonly string[]): Promise<void> {
    for (let first = 0; first < keys.length; first += listedMax) {
      const some = keys.slice(first, first + listedMax);
      await this.#run(some, () =>
        this.#repeat("delete", some[0] as string, () => this.#components.objects.remove(some)),
      );
    }
  }

  localPath(): undefined {
    return undefined;
  }

  hasten(): void {
    this.#deadlineMs = this.#components.clock.monotonicMs() + hastenedMs;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.hasten();
    this.#closed = true;
    await Promise.allSettled(this.#inFlight);
    await this.#components.objects.close();
  }

  async #put(key: string, chunks: readonly Uint8Array[]): Promise<PutOutcome> {
    const { objects, random } = this.#components;
    const nonce = Buffer.from(random.bytes(16)).toString("hex");
    const patience = this.#patience();
    for (;;) {
      let failure: ObjectStoreError;
      try {
        // Durability: an object that the store says it has is safe.
        await objects.put(key, chunks, nonce);
        return "created";
      } catch (error) {
        if (!isObjectStoreError(error)) throw error;
        if (isFinal(error)) throw this.#failed("put", key, error);
        failure = error;
      }
      const standing = await this.#nonceAt(key);
      if (standing === nonce) return "created";
      if (standing === "unknown") return "unknown";
      if (standing !== "absent") return "exists";
      if (!(await patience.wait("put", key, failure))) return "unknown";
    }
  }

  /** "unknown" if that cannot be found out; an object without a nonce is somebody's. */
  async #nonceAt(key: string): Promise<string | "absent" | "unknown"> {
    try {
      const { nonce = "none" } = await this.#repeat("head", key, () =>
        this.#components.objects.head(key),
      );
      return nonce;
    } catch (error) {
      if (!(error instanceof KelpieError)) throw error;
      return error.code === "not-found" ? "absent" : "unknown";
    }
  }

  async #repeat<T>(kind: string, key: string, action: () => Promise<T>): Promise<T> {
    const patience = this.#patience();
    for (;;) {
      try {
        return await action();
      } catch (error) {
        if (!isObjectStoreError(error)) throw error;
        if (error.failure === "not-found" && error.reason !== "NoSuchBucket") {
          throw new KelpieError("not-found", `${key} is not in ${this.#url}`, { cause: error });
        }
        if (isFinal(error) || !(await patience.wait(kind, key, error))) {
          throw this.#failed(kind, key, error);
        }
      }
    }
  }

  /** Says in `wait`, after a pause, whether it is worth asking again. */
  #patience(): { wait(kind: string, key: string, error: ObjectStoreError): Promise<boolean> } {
    const { clock, timers, random, log } = this.#components;
    const startMs = clock.monotonicMs();
    let pauseMs = pauseFirstMs;
    return {
      wait: async (kind, key, error) => {
        const spreadMs = pauseMs * (0.5 + (random.bytes(1)[0] as number) / 256);
        const thisMs = Math.max(spreadMs, error.retryAfterMs ?? 0);
        const endMs = Math.min(startMs + this.#giveUpMs, this.#deadlineMs);
        if (clock.monotonicMs() + thisMs > endMs) return false;
        // The first is ordinary; when it goes on, people want to know why nothing moves.
        if (pauseMs === pauseLastMs) {
          log.warn("the object store does not answer", { kind, key, error: messageOf(error) });
        }
        pauseMs = Math.min(pauseMs * 2, pauseLastMs);
        await timers.sleep(thisMs);
        return true;
      },
    };
  }

  #failed(kind: string, key: string, cause: ObjectStoreError): KelpieError {
    return new KelpieError("io", `${this.#url}: ${kind} ${cause.message || key}`, {
      cause,
      remedy: "Look at the object store and at the network between.",
    });
  }

  get #url(): string {
    return this.#components.objects.url;
  }

  async #run<T>(keys: readonly string[], action: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new KelpieError("closed", `${this.#url} is closed`);
    for (const key of keys) checkKey(key);
    const running = action();
    this.#inFlight.add(running);
    try {
      return await running;
    } finally {
      this.#inFlight.delete(running);
    }
  }
}

function isFinal(error: ObjectStoreError): boolean {
  return error.failure === "refused" && !passingReasons.has(error.reason);
}
