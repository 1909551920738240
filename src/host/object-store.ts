/**
 * A place in an S3-compatible store: a bucket, and perhaps a prefix in it. Keys are relative to that.
 * Each call is one attempt. Errors are `ObjectStoreError`; everything else that is thrown is a mistake.
 */
export interface ObjectStore {
  /** For people: "s3://bucket/prefix". */
  readonly url: string;
  /**
   * Creates `key` unless it is there, with the nonce beside it. Every failure but "refused" leaves
   * open whether it took effect, "exists" too: what stands there may be this very put.
   */
  put(key: string, chunks: readonly Uint8Array[], nonce: string): Promise<void>;
  /** The bytes of a range, fewer if the object ends in it, and how many it has in all. */
  get(key: string, range?: { offset: number; length: number }): Promise<StoredBytes>;
  /** The nonce that was put beside it, and its size. */
  head(key: string): Promise<{ nonce: string | undefined; sizeBytes: number }>;
  /** Up to `max` keys, 1,000 at most, that begin with `prefix` and sort after `after`, in order. */
  list(query: { prefix: string; after: string; max: number }): Promise<string[]>;
  /** Up to 1,000 of them. It is no error if one is not there. */
  remove(keys: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export interface StoredBytes {
  bytes: Uint8Array;
  totalBytes: number;
}

export type ObjectStoreFailure =
  /** Something stands at the key. */
  | "exists"
  | "not-found"
  /** The request, or who sends it, is not accepted; once more is of no use. */
  | "refused"
  /** No answer, or one that says to come again: the request may have taken effect or not. */
  | "unavailable";

export class ObjectStoreError extends Error {
  readonly failure: ObjectStoreFailure;
  /** S3's own word for it, such as "NoSuchBucket" or "SlowDown", or a system's, such as "ECONNREFUSED". */
  readonly reason: string;
  /** How long the store asks to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(
    failure: ObjectStoreFailure,
    message: string,
    details: { reason: string; retryAfterMs?: number | undefined; cause?: unknown },
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "ObjectStoreError";
    this.failure = failure;
    this.reason = details.reason;
    this.retryAfterMs = details.retryAfterMs;
  }
}

export function isObjectStoreError(
  value: unknown,
  failure?: ObjectStoreFailure,
): value is ObjectStoreError {
  return value instanceof ObjectStoreError && (failure === undefined || value.failure === failure);
}
