import { z } from "zod";
import { KelpieError } from "../base/errors.ts";

/** What a monitor sends: a greeting, once; then answers, by id, and events (qmp-spec.txt, 2.2 to 2.5). */

const version = z.object({
  qemu: z.object({ major: z.number(), minor: z.number(), micro: z.number() }),
});
const greeting = z.object({ QMP: z.object({ version }) });
const failure = z.object({
  error: z.object({ class: z.string(), desc: z.string() }),
  id: z.unknown().optional(),
});
const success = z.object({ return: z.unknown(), id: z.unknown().optional() });
const event = z.object({
  event: z.string(),
  data: z.record(z.string(), z.unknown()).default({}),
  timestamp: z.object({ seconds: z.number(), microseconds: z.number() }).optional(),
});

export interface QemuVersion {
  major: number;
  minor: number;
  micro: number;
}

export interface QmpEvent {
  name: string;
  data: Record<string, unknown>;
}

export interface QmpFailure {
  class: string;
  desc: string;
}

export type Incoming =
  | { kind: "greeting"; version: QemuVersion }
  | { kind: "success"; id: unknown; value: unknown }
  | { kind: "failure"; id: unknown; error: QmpFailure }
  | { kind: "event"; event: QmpEvent };

/** Throws "io" for what is none of them. */
export function parseIncoming(message: Record<string, unknown>): Incoming {
  if ("QMP" in message) {
    return { kind: "greeting", version: checked(greeting, message).QMP.version.qemu };
  }
  if ("event" in message) {
    const { event: name, data } = checked(event, message);
    return { kind: "event", event: { name, data } };
  }
  if ("error" in message) {
    const { error, id } = checked(failure, message);
    return { kind: "failure", id, error };
  }
  if ("return" in message) {
    const answer = checked(success, message);
    return { kind: "success", id: answer.id, value: answer.return };
  }
  throw notUnderstood(Object.keys(message).slice(0, 3).join(", "));
}

export function parseAnswer<T extends z.ZodType>(
  schema: T,
  value: unknown,
  command: string,
): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue === undefined ? "" : `: ${issue.path.join(".")}: ${issue.message}`;
  throw new KelpieError("io", `QEMU's answer to ${command} is not understood${where}`);
}

function checked<T extends z.ZodType>(schema: T, message: unknown): z.output<T> {
  const parsed = schema.safeParse(message);
  if (parsed.success) return parsed.data;
  throw notUnderstood(z.prettifyError(parsed.error));
}

function notUnderstood(what: string): KelpieError {
  return new KelpieError("io", `a message of the monitor is not understood: ${what}`, {
    remedy: "Is it a QMP monitor? QEMU's other one is for people.",
  });
}
