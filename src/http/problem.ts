// biome-ignore lint/style/noRestrictedImports: a table of names, no network.
import { STATUS_CODES } from "node:http";
import type { FastifyReply } from "fastify";
import { z } from "zod";
import { type ErrorCode, isKelpieError, KelpieError, messageOf } from "../base/errors.ts";

/**
 * An error as a problem document (RFC 9457). `type` is "about:blank", which says that `title` is the
 * status' own phrase; what programs act on is `code`, and what people do about it is `remedy`.
 */
export const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  /** A code of KelpieError, or "internal" for our own mistakes. */
  code: z.string(),
  remedy: z.string().optional(),
});
export type Problem = z.infer<typeof problem>;

export const problemType = "application/problem+json";

export function problemOf(error: unknown): Problem {
  if (!isKelpieError(error)) {
    // Ours, not the caller's: the message is for the person who will report it.
    return makeProblem(500, "internal", `internal error: ${messageOf(error)}`);
  }
  return makeProblem(statusOf[error.code], error.code, error.message, error.remedy);
}

export function makeProblem(
  status: number,
  code: string,
  detail: string,
  remedy?: string,
): Problem {
  const document = { type: "about:blank", title: STATUS_CODES[status] ?? "", status, detail, code };
  return remedy === undefined ? document : { ...document, remedy };
}

export function sendProblem(reply: FastifyReply, document: Problem): void {
  reply.code(document.status).type(problemType).send(JSON.stringify(document));
}

/** The error that a problem document stands for. A code that this version does not know is "io". */
export function errorOf(document: Problem): KelpieError {
  const code = isErrorCode(document.code) ? document.code : "io";
  const options = document.remedy === undefined ? {} : { remedy: document.remedy };
  return new KelpieError(code, document.detail, options);
}

const statusOf: Record<ErrorCode, number> = {
  invalid: 400,
  "not-found": 404,
  exists: 409,
  busy: 409,
  denied: 403,
  "read-only": 403,
  "no-space": 507,
  io: 500,
  corrupt: 500,
  unsupported: 501,
  closed: 503,
};

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(statusOf, code);
}
