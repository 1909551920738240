import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** What becomes of one request. */
export type S3Fault =
  | "refuse 500"
  | "refuse 503, Retry-After"
  /** Closes the connection before it did anything. */
  | "lose the request"
  /** Does it, and closes the connection without an answer. */
  | "lose the answer"
  /** Does it, and answers 409. */
  | "do it, answer 409"
  /** Sends half of the body, and closes. */
  | "cut the body"
  /** Sends half of the body, and nothing more. */
  | "stall the body"
  /** Never answers. */
  | "stall";

interface Armed {
  fault: S3Fault;
  method: string;
  key: string | undefined;
  times: number;
}

interface Stored {
  bytes: Buffer;
  metadata: Record<string, string>;
}

/**
 * An S3 server of this process, as far as Kelpie needs one, which misbehaves when it is told to. It takes
 * one access key and one bucket, in the path.
 */
export class FakeS3 implements AsyncDisposable {
  readonly bucket = "disks";
  readonly accessKey: string;
  readonly objects = new Map<string, Stored>();
  readonly requests: { method: string; key: string; status: number }[] = [];
  /** Puts with If-None-Match overwrite what is there: a server that Kelpie must refuse. */
  ignoresConditions = false;
  /** It takes the client's clock for wrong. */
  clockIsOff = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #armed: Armed[] = [];

  private constructor(accessKey: string) {
    this.accessKey = accessKey;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  static async start(port = 0, { accessKey = "AKIATEST" } = {}): Promise<FakeS3> {
    const fake = new FakeS3(accessKey);
    await fake.listen(port);
    return fake;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What a process needs in its environment to use it. */
  get env(): Record<string, string> {
    return {
      AWS_ACCESS_KEY_ID: this.accessKey,
      AWS_SECRET_ACCESS_KEY: "secret",
      AWS_REGION: "us-east-1",
      AWS_ENDPOINT_URL: this.endpoint,
    };
  }

  fail(fault: S3Fault, on: { method: string; key?: string; times?: number }): void {
    this.#armed.push({ fault, method: on.method, key: on.key, times: on.times ?? 1 });
  }

  count(method: string, key?: string | RegExp): number {
    return this.requests.filter((request) => {
      if (request.method !== method) return false;
      return typeof key === "object"
        ? key.test(request.key)
        : key === undefined || request.key === key;
    }).length;
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", resolve);
    });
  }

  /** Stops answering; `listen` begins again. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.stop();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://s3");
    const [, bucket = "", ...rest] = decodeURIComponent(url.pathname).split("/");
    const key = rest.join("/");
    const method = methodOf(request, url);
    const body = await bodyOf(request);
    if (body === undefined) return;
    const fault = this.#take(method, key);
    const answer =
      this.#refuse(request, bucket) ??
      (fault?.startsWith("refuse") || fault === "lose the request"
        ? error(fault === "refuse 500" ? 500 : 503, "SlowDown")
        : this.#act({ method, key, url, request, body }));
    if (fault === "refuse 503, Retry-After") answer.headers["retry-after"] = "0.05";
    this.requests.push({ method, key, status: answer.status });
    this.#answer({ request, response }, fault === "do it, answer 409" ? conflict() : answer, fault);
  }

  #take(method: string, key: string): S3Fault | undefined {
    const armed = this.#armed.find(
      (each) => each.method === method && (each.key === undefined || each.key === key),
    );
    if (armed === undefined) return undefined;
    armed.times--;
    if (armed.times === 0) this.#armed = this.#armed.filter((each) => each !== armed);
    return armed.fault;
  }

  #refuse(request: IncomingMessage, bucket: string): Answer | undefined {
    if (this.clockIsOff) return error(403, "RequestTimeTooSkewed");
    const key = /Credential=([^/]+)\//.exec(request.headers.authorization ?? "")?.[1];
    if (key !== this.accessKey) return error(403, "InvalidAccessKeyId");
    return bucket === this.bucket ? undefined : error(404, "NoSuchBucket");
  }

  #act({ method, key, url, request, body }: Request): Answer {
    switch (method) {
      case "PUT":
        return this.#put(key, request, body);
      case "GET":
      case "HEAD":
        return this.#get(key, request);
      case "LIST":
        return this.#list(url);
      case "DELETE":
        for (const [, name = ""] of body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)) {
          this.objects.delete(name);
        }
        return { status: 200, headers: {}, body: Buffer.from("<DeleteResult></DeleteResult>") };
      default:
        return error(405, "MethodNotAllowed");
    }
  }

  #put(key: string, request: IncomingMessage, body: Buffer): Answer {
    const isConditional = request.headers["if-none-match"] === "*" && !this.ignoresConditions;
    if (isConditional && this.objects.has(key)) return error(412, "PreconditionFailed");
    const metadata = Object.entries(request.headers).filter(([name]) =>
      name.startsWith("x-amz-meta-"),
    );
    this.objects.set(key, {
      bytes: body,
      metadata: Object.fromEntries(metadata) as Record<string, string>,
    });
    return { status: 200, headers: { etag: '"0"' }, body: Buffer.alloc(0) };
  }

  #get(key: string, request: IncomingMessage): Answer {
    const stored = this.objects.get(key);
    if (stored === undefined) return error(404, "NoSuchKey");
    const { bytes, metadata } = stored;
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    if (range === null) return { status: 200, headers: { ...metadata }, body: bytes };
    const [from, to] = [Number(range[1]), Math.min(Number(range[2]), bytes.length - 1)];
    if (from >= bytes.length) return error(416, "InvalidRange");
    const headers = { ...metadata, "content-range": `bytes ${from}-${to}/${bytes.length}` };
    return { status: 206, headers, body: bytes.subarray(from, to + 1) };
  }

  #list(url: URL): Answer {
    const prefix = url.searchParams.get("prefix") ?? "";
    const after = url.searchParams.get("start-after") ?? "";
    const max = Number(url.searchParams.get("max-keys") ?? 1000);
    const keys = [...this.objects.keys()]
      .filter((key) => key.startsWith(prefix) && key > after)
      .sort()
      .slice(0, max);
    const contents = keys.map((key) => `<Contents><Key>${key}</Key></Contents>`).join("");
    const text = `<?xml version="1.0"?><ListBucketResult>${contents}</ListBucketResult>`;
    return { status: 200, headers: { "content-type": "application/xml" }, body: Buffer.from(text) };
  }

  #answer(
    { request, response }: { request: IncomingMessage; response: ServerResponse },
    { status, headers, body }: Answer,
    fault: S3Fault | undefined,
  ): void {
    if (fault === "stall") return;
    if (fault === "lose the request" || fault === "lose the answer") {
      request.socket.destroy();
      return;
    }
    response.writeHead(status, { ...headers, "content-length": body.length });
    if (request.method === "HEAD") response.end();
    else if (fault === "cut the body" || fault === "stall the body") {
      response.write(body.subarray(0, body.length / 2), () => {
        if (fault === "cut the body") request.socket.destroy();
      });
    } else response.end(body);
  }
}

interface Request {
  method: string;
  key: string;
  url: URL;
  request: IncomingMessage;
  body: Buffer;
}

interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
}

/** S3 has lists and deletes of many behind GET and POST. */
function methodOf(request: IncomingMessage, url: URL): string {
  if (url.searchParams.has("list-type")) return "LIST";
  if (url.searchParams.has("delete")) return "DELETE";
  return request.method ?? "";
}

/** Undefined if the client went away. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  } catch {
    return undefined;
  }
}

function error(status: number, code: string): Answer {
  const text = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`;
  return { status, headers: { "content-type": "application/xml" }, body: Buffer.from(text) };
}

function conflict(): Answer {
  return error(409, "ConditionalRequestConflict");
}
