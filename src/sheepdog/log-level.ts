import { KelpieError } from "../base/errors.ts";
import { readU32, writeU32 } from "../base/little-endian.ts";
import type { LogLevel } from "../host/log.ts";
import type { Answer, Call, OperationParts } from "./operation.ts";

const numberOfLevel: Record<LogLevel, number> = { silent: 0, error: 3, warn: 4, info: 6, debug: 7 };
/** By syslog's numbers, from "emergency" to "debug"; what is called "notice" there is "info" here. */
const levels = ["error", "error", "error", "error", "warn", "info", "info", "debug"] as const;

export async function getLogLevel(_: Call, { log }: OperationParts): Promise<Answer> {
  const payload = new Uint8Array(4);
  writeU32(payload, 0, numberOfLevel[log.level ?? "silent"]);
  return { payload };
}

export async function setLogLevel({ payload }: Call, { log }: OperationParts): Promise<Answer> {
  const level = payload.length < 4 ? undefined : levels[readU32(payload, 0)];
  if (level === undefined) throw new KelpieError("invalid", "no such level of the log");
  log.level = level;
  return {};
}
