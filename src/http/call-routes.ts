import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import {
  type CallContext,
  type CallInput,
  type CallName,
  type CallOutput,
  type Control,
  calls,
} from "../control/calls.ts";
import type { Log } from "../host/log.ts";
import { problemOf } from "./problem.ts";

export interface CallComponents {
  control: Control;
  log: Log;
  /** Aborted when the server shuts down. */
  stop: AbortSignal;
}

const lines = "application/x-ndjson";

/**
 * `POST /v1/<call>` for every call: its input as JSON, its output as the answer, or a problem document. A
 * call of kind "work" asked for with `Accept: application/x-ndjson` answers lines: any number of
 * `{"progress":…}`, then one `{"result":…}` or `{"error":…}`; it is given up when its client goes away.
 */
export function addCallRoutes(app: FastifyInstance, components: CallComponents): void {
  for (const name of Object.keys(calls) as CallName[]) {
    app.post(`/v1/${name}`, (request, reply) => answer(name, request, reply, components));
  }
}

async function answer(
  name: CallName,
  request: FastifyRequest,
  reply: FastifyReply,
  { control, log, stop }: CallComponents,
): Promise<void> {
  stop.throwIfAborted();
  const input = parseInput(name, request.body);
  if (calls[name].kind !== "work") {
    // Once begun it is finished, whoever listens: a change has no half-way.
    reply.send(await control.call(name, input));
    return;
  }
  const gone = new AbortController();
  reply.raw.once("close", () => {
    gone.abort(new KelpieError("closed", `${name}: the client went away`));
  });
  const signal = AbortSignal.any([gone.signal, stop]);
  if (!(request.headers.accept ?? "").includes(lines)) {
    reply.send(await control.call(name, input, { signal }));
    return;
  }
  reply.hijack();
  await stream(reply, log, (progress) => control.call(name, input, { signal, progress }));
}

async function stream(
  reply: FastifyReply,
  log: Log,
  work: (progress: NonNullable<CallContext["progress"]>) => Promise<CallOutput<CallName>>,
): Promise<void> {
  const out = reply.raw;
  out.writeHead(200, { "content-type": lines, connection: "close" });
  const say = (line: unknown): void => {
    if (!out.destroyed) out.write(`${JSON.stringify(line)}\n`);
  };
  try {
    const result = await work((progress) => {
      // A client that does not read misses some progress; it must not cost us memory.
      if (!out.writableNeedDrain) say({ progress });
    });
    say({ result });
  } catch (error) {
    if (!isKelpieError(error)) log.error("call failed", { error });
    say({ error: problemOf(error) });
  }
  out.end();
}

function parseInput<N extends CallName>(name: N, body: unknown): CallInput<N> {
  const parsed = calls[name].input.safeParse(body ?? {});
  if (parsed.success) return parsed.data as CallInput<N>;
  const issue = parsed.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `;
  throw new KelpieError("invalid", `${name}: ${where}${issue?.message ?? "not a valid input"}`);
}
