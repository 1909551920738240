import { pino } from "pino";
import type { Log, LogLevel } from "../log.ts";

export interface NodeLogSettings {
  /** The least severe level that is written. "silent" writes nothing. */
  level: LogLevel;
  /** A file descriptor to write to; standard error by default. */
  fd?: number;
}

/** One line of JSON per event, on standard error: standard output belongs to the commands. */
export function createNodeLog(settings: NodeLogSettings): Log {
  // Synchronous, so that the line that says why the process ends is written before it does. There
  // is nothing on the I/O path to slow down.
  const out = pino.destination({ fd: settings.fd ?? 2, sync: true });
  const logger = pino(
    {
      level: settings.level,
      base: { pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err, err: pino.stdSerializers.err },
    },
    out,
  );
  return {
    get level() {
      return logger.level as LogLevel;
    },
    set level(level: LogLevel) {
      logger.level = level;
    },
    debug: (event, fields) => logger.debug(fields ?? {}, event),
    info: (event, fields) => logger.info(fields ?? {}, event),
    warn: (event, fields) => logger.warn(fields ?? {}, event),
    error: (event, fields) => logger.error(fields ?? {}, event),
  };
}
