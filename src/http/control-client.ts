// biome-ignore lint/style/noRestrictedImports: HTTP is node's; host/ has byte streams only.
import { request as httpRequest, type IncomingMessage } from "node:http";
import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import {
  type CallContext,
  type CallInput,
  type CallName,
  type CallOutput,
  type Control,
  calls,
} from "../control/calls.ts";
import { errorOf, problem } from "./problem.ts";
import { shortSocketPath } from "./socket-path.ts";

export interface RunningServer {
  control: Control;
  info: CallOutput<"server.info">;
}

/**
 * The server that listens on a control socket, or undefined if none does. "busy" if one does but
 * does not answer, "io" if it may not be asked.
 */
export async function connectControl(socketPath: string): Promise<RunningServer | undefined> {
  const control: Control = {
    call: (name, input, context) => call(socketPath, { name, input }, context ?? {}),
  };
  try {
    const ask = { name: "server.info", input: {}, idleTimeoutMs: helloTimeoutMs } as const;
    return { control, info: await call(socketPath, ask, {}) };
  } catch (error) {
    // The one failure that is an answer: the caller goes on by itself.
    if (nobodyListens(error)) return undefined;
    throw error;
  }
}

interface Ask<N extends CallName> {
  name: N;
  input: CallInput<N>;
  idleTimeoutMs?: number;
}

/** A server that is alive says who it is at once; one that is stopped never does. */
const helloTimeoutMs = 10_000;

/** Far above the longest list; a limit on what a wrong peer makes us hold. */
const answerBytesMax = 2 ** 28;

async function call<N extends CallName>(
  socketPath: string,
  ask: Ask<N>,
  context: CallContext,
): Promise<CallOutput<N>> {
  const work = calls[ask.name].kind === "work";
  const response = await post(socketPath, ask, work, context.signal);
  const status = response.statusCode ?? 0;
  if (status !== 200) throw failure(ask.name, await text(response, ask.name));
  if (!(response.headers["content-type"] ?? "").startsWith("application/x-ndjson")) {
    return output(ask.name, parseJson(ask.name, await text(response, ask.name)));
  }
  for await (const line of linesOf(response, ask.name)) {
    const message = parseJson(ask.name, line) as Partial<Record<string, unknown>>;
    if (message.progress !== undefined) {
      context.progress?.(message.progress as Parameters<NonNullable<CallContext["progress"]>>[0]);
    } else if (message.error !== undefined) {
      throw failure(ask.name, JSON.stringify(message.error));
    } else if (message.result !== undefined) {
      return output(ask.name, message.result);
    }
  }
  throw goneAway(ask.name);
}

function post<N extends CallName>(
  socketPath: string,
  ask: Ask<N>,
  work: boolean,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  const body = JSON.stringify(ask.input);
  const short = shortSocketPath(socketPath);
  return new Promise<IncomingMessage>((done, fail) => {
    const request = httpRequest({
      socketPath: short.path,
      method: "POST",
      path: `/v1/${ask.name}`,
      agent: false,
      headers: {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
        ...(work ? { accept: "application/x-ndjson" } : {}),
      },
      ...(signal === undefined ? {} : { signal }),
      ...(ask.idleTimeoutMs === undefined ? {} : { timeout: ask.idleTimeoutMs }),
    });
    request.once("timeout", () => request.destroy(doesNotAnswer(socketPath)));
    request.once("response", done);
    request.once("error", (error) => fail(requestError(socketPath, ask.name, error)));
    request.end(body);
  }).finally(() => short.close());
}

async function text(response: IncomingMessage, name: CallName): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > answerBytesMax) throw tooLong(name);
      chunks.push(chunk);
    }
  } catch (error) {
    throw readError(error, name);
  }
  return Buffer.concat(chunks).toString();
}

async function* linesOf(response: IncomingMessage, name: CallName): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        rest.push(chunk.subarray(start, end));
        yield Buffer.concat(rest).toString();
        rest = [];
        length = 0;
        start = end + 1;
      }
      rest.push(chunk.subarray(start));
      length += chunk.length - start;
      if (length > answerBytesMax) throw tooLong(name);
    }
  } catch (error) {
    throw readError(error, name);
  }
}

function output<N extends CallName>(name: N, value: unknown): CallOutput<N> {
  const parsed = calls[name].output.safeParse(value);
  if (parsed.success) return parsed.data as CallOutput<N>;
  throw new KelpieError("io", `${name}: the server's answer is not understood`, {
    remedy: "is the server of another version? stop it and start it again",
  });
}

function failure(name: CallName, body: string): KelpieError {
  const parsed = problem.safeParse(parseJson(name, body));
  if (parsed.success) return errorOf(parsed.data);
  return new KelpieError("io", `${name}: the server failed: ${body.slice(0, 200)}`);
}

function parseJson(name: CallName, body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new KelpieError("io", `${name}: the server's answer is not JSON`, { cause: error });
  }
}

function requestError(socketPath: string, name: CallName, cause: Error): KelpieError {
  if (isKelpieError(cause)) return cause;
  const errno = errnoOf(cause);
  if (errno === "ABORT_ERR") return new KelpieError("closed", `${name}: interrupted`, { cause });
  if (errno === "ECONNREFUSED" || errno === "ENOENT" || errno === "ENOTDIR") {
    return new KelpieError("closed", `no server listens on ${socketPath}`, { cause });
  }
  if (errno === "EACCES" || errno === "EPERM") {
    const remedy = "run this as the user that started the server";
    return new KelpieError("io", `${socketPath}: permission denied`, { cause, remedy });
  }
  if (errno === "ECONNRESET" || errno === "EPIPE") return goneAway(name, cause);
  return new KelpieError("io", `${socketPath}: ${messageOf(cause)}`, { cause });
}

function readError(error: unknown, name: CallName): KelpieError {
  if (isKelpieError(error)) return error;
  if (errnoOf(error) === "ABORT_ERR") {
    return new KelpieError("closed", `${name}: interrupted`, { cause: error });
  }
  return goneAway(name, error);
}

function goneAway(name: CallName, cause?: unknown): KelpieError {
  return new KelpieError("closed", `${name}: the server went away before it had answered`, {
    cause,
    remedy: "look whether it was done, with kelpie vdi list",
  });
}

function doesNotAnswer(socketPath: string): KelpieError {
  return new KelpieError("busy", `the server on ${socketPath} does not answer`);
}

function tooLong(name: CallName): KelpieError {
  return new KelpieError("io", `${name}: the server's answer is too long`);
}

function nobodyListens(error: unknown): boolean {
  const errno = isKelpieError(error) ? errnoOf(error.cause) : undefined;
  // A directory that is not there: shortSocketPath had to open it.
  const noDirectory = isKelpieError(error, "not-found") && errno === "ENOENT";
  return noDirectory || errno === "ECONNREFUSED" || errno === "ENOENT" || errno === "ENOTDIR";
}

function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
