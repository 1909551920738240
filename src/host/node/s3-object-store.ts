import type { Readable } from "node:stream";
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { lengthOf } from "../../base/bytes.ts";
import { type ObjectStore, ObjectStoreError, type StoredBytes } from "../object-store.ts";

export interface S3Place {
  bucket: string;
  /** "", or something that ends in "/". */
  prefix: string;
  /** AWS's own by default, by the region. */
  endpoint?: string | undefined;
  /** By default what the environment and the AWS configuration say, else "us-east-1". */
  region?: string | undefined;
  /** The bucket is in the path and not in the host's name. */
  pathStyle: boolean;
  /** By default AWS's chain: environment, shared files, single sign-on, the machine's or pod's role. */
  credentials?: { accessKeyId: string; secretAccessKey: string };
  /** For an answer to begin, and for a connection to be made. */
  timeoutMs?: number;
}

const defaultTimeoutMs = 10_000;
const connectTimeoutMs = 3_000;
/** Slower than this a body is taken for lost: 256 KiB a second, beside the time for the answer. */
const bytesPerMsMin = 256;
/** Requests at one time; more wait for a connection. */
const connectionsMax = 64;
const nonceName = "kelpie-nonce";

/**
 * A bucket by the AWS SDK, with the credentials chain that its users expect. No request is tried twice
 * in here: whoever asks decides what an answer that did not come means.
 */
export function openS3ObjectStore(place: S3Place): ObjectStore {
  const timeoutMs = place.timeoutMs ?? defaultTimeoutMs;
  const client = new S3Client({
    ...(place.endpoint === undefined ? {} : { endpoint: place.endpoint }),
    ...(place.region === undefined ? {} : { region: place.region }),
    ...(place.credentials === undefined ? {} : { credentials: place.credentials }),
    forcePathStyle: place.pathStyle,
    maxAttempts: 1,
    // Several servers refuse the trailers of the default.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: new NodeHttpHandler({
      connectionTimeout: Math.min(connectTimeoutMs, timeoutMs),
      requestTimeout: timeoutMs,
      throwOnRequestTimeout: true,
      httpAgent: { keepAlive: true, maxSockets: connectionsMax },
      httpsAgent: { keepAlive: true, maxSockets: connectionsMax },
      socketAcquisitionWarningTimeout: 2 ** 30,
    }),
  });
  leaveBodiesUnsigned(client);
  return new S3ObjectStore(client, { ...place, timeoutMs });
}

/**
 * A digest of each body would stop all else for 30 ms every 16 MiB, and says no more than the checksum
 * that every block has already.
 */
function leaveBodiesUnsigned(client: S3Client): void {
  client.middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> };
      headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD";
      return next(args);
    },
    { step: "build", name: "kelpieUnsignedBody" },
  );
}

class S3ObjectStore implements ObjectStore {
  readonly url: string;
  readonly #client: S3Client;
  readonly #place: S3Place & { timeoutMs: number };

  constructor(client: S3Client, place: S3Place & { timeoutMs: number }) {
    this.#client = client;
    this.#place = place;
    this.url = `s3://${place.bucket}${place.prefix === "" ? "" : `/${place.prefix.slice(0, -1)}`}`;
  }

  async put(key: string, chunks: readonly Uint8Array[], nonce: string): Promise<void> {
    const length = lengthOf(chunks);
    await this.#send(key, length, ({ abortSignal }) =>
      this.#client.send(
        new PutObjectCommand({
          ...this.#object(key),
          Body: chunks.length === 1 ? (chunks[0] as Uint8Array) : Buffer.concat(chunks, length),
          ContentLength: length,
          IfNoneMatch: "*",
          Metadata: { [nonceName]: nonce },
        }),
        { abortSignal },
      ),
    );
  }

  async get(key: string, range?: { offset: number; length: number }): Promise<StoredBytes> {
    if (range?.length === 0) return { bytes: new Uint8Array(0), totalBytes: 0 };
    return this.#send(key, 0, async ({ abortSignal, expect }) => {
      const answer = await this.#client.send(
        new GetObjectCommand({
          ...this.#object(key),
          ...(range === undefined ? {} : { Range: rangeHeader(range) }),
        }),
        { abortSignal },
      );
      const length = answer.ContentLength ?? 0;
      if (range !== undefined && length > range.length) {
        (answer.Body as Readable).destroy();
        throw new ObjectStoreError("refused", `${key}: the store ignores ranges`, {
          reason: "NoRanges",
        });
      }
      expect(length);
      const bytes = await collect(answer.Body as Readable, length, abortSignal);
      const total = /\/(\d+)$/.exec(answer.ContentRange ?? "")?.[1];
      return { bytes, totalBytes: total === undefined ? length : Number(total) };
    });
  }

  async head(key: string): Promise<{ nonce: string | undefined; sizeBytes: number }> {
    const answer = await this.#send(key, 0, ({ abortSignal }) =>
      this.#client.send(new HeadObjectCommand(this.#object(key)), { abortSignal }),
    );
    return { nonce: answer.Metadata?.[nonceName], sizeBytes: answer.ContentLength ?? 0 };
  }

  async list(query: { prefix: string; after: string; max: number }): Promise<string[]> {
    const { bucket, prefix } = this.#place;
    const answer = await this.#send(query.prefix, 2 ** 20, ({ abortSignal }) =>
      this.#client.send(
        new ListObjectsV2Command({
          Bucket: bucket,
          Prefix: prefix + query.prefix,
          MaxKeys: query.max,
          ...(query.after === "" ? {} : { StartAfter: prefix + query.after }),
        }),
        { abortSignal },
      ),
    );
    return (answer.Contents ?? []).map(({ Key = "" }) => Key.slice(prefix.length));
  }

  async remove(keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    const { bucket, prefix } = this.#place;
    const answer = await this.#send(keys[0] as string, 2 ** 20, ({ abortSignal }) =>
      this.#client.send(
        new DeleteObjectsCommand({
          Bucket: bucket,
          Delete: { Quiet: true, Objects: keys.map((key) => ({ Key: prefix + key })) },
        }),
        { abortSignal },
      ),
    );
    const error = answer.Errors?.find(({ Code }) => Code !== "NoSuchKey");
    if (error === undefined) return;
    const reason = error.Code ?? "unknown";
    throw new ObjectStoreError("unavailable", `delete ${error.Key}: ${reason}`, { reason });
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }

  #object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#place.bucket, Key: this.#place.prefix + key };
  }

  /** `bytes`: how much goes over the network, which it is given time for. */
  async #send<T>(
    key: string,
    bytes: number,
    action: (options: Patience) => Promise<T>,
  ): Promise<T> {
    const { timeoutMs } = this.#place;
    const late = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const expect = (more: number): void => {
      clearTimeout(timer);
      const wholeMs = Math.min(connectTimeoutMs, timeoutMs) + timeoutMs + more / bytesPerMsMin;
      timer = setTimeout(() => late.abort(), wholeMs);
    };
    expect(bytes);
    try {
      return await action({ abortSignal: late.signal, expect });
    } catch (error) {
      throw failureOf(error, key);
    } finally {
      clearTimeout(timer);
    }
  }
}

interface Patience {
  abortSignal: AbortSignal;
  /** So many bytes are on their way: they are given time for that from now on. */
  expect(bytes: number): void;
}

function rangeHeader({ offset, length }: { offset: number; length: number }): string {
  return `bytes=${offset}-${offset + length - 1}`;
}

/** All of a body, which says how long it is, or an error: one that is cut short is no object. */
async function collect(body: Readable, length: number, signal: AbortSignal): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let at = 0;
  const stop = () => body.destroy(new Error("the body was too slow"));
  signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (at + chunk.length > length) break;
      bytes.set(chunk, at);
      at += chunk.length;
    }
  } finally {
    signal.removeEventListener("abort", stop);
  }
  if (at !== length) throw new Error(`the body ended after ${at} of ${length} bytes`);
  return bytes;
}

/** What it means to whoever asked. The SDK gives names to what has no answer, too. */
function failureOf(error: unknown, key: string): ObjectStoreError {
  if (error instanceof ObjectStoreError) return error;
  const cause = error instanceof Error ? error : new Error(String(error));
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  const reason = "code" in cause && typeof cause.code === "string" ? cause.code : cause.name;
  const message = `${key}: ${cause.message || reason}`;
  const details = { reason, cause, retryAfterMs: retryAfterOf(error) };
  if (cause.name === "CredentialsProviderError") {
    return new ObjectStoreError("refused", message, { ...details, reason: cause.name });
  }
  if (cause.message === "Region is missing") {
    return new ObjectStoreError("refused", message, { ...details, reason: "RegionMissing" });
  }
  if (status === 412) return new ObjectStoreError("exists", message, details);
  if (status === 404 && reason !== "NoSuchBucket") {
    return new ObjectStoreError("not-found", message, details);
  }
  // 408 and 425 to 429 say to come again, and so does 409, which is a conflict with another request.
  const again = status === undefined || status >= 500 || againStatuses.has(status);
  return new ObjectStoreError(again ? "unavailable" : "refused", message, details);
}

const againStatuses = new Set([408, 409, 425, 429]);

function retryAfterOf(error: unknown): number | undefined {
  if (!(error instanceof S3ServiceException)) return undefined;
  const seconds = Number(error.$response?.headers["retry-after"]);
  return Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds * 1000, 60_000) : undefined;
}
