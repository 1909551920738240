import { createRequire } from "node:module";
import { addAbortSignal } from "node:stream";
import { fileURLToPath } from "node:url";
import { KelpieError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import { createNodeHost } from "../host/node/node-host.ts";
import { BrokenPipe, type CliContext, type Output } from "./context.ts";
import { openLocal } from "./local.ts";
import { run } from "./program.ts";
import { createTerminal } from "./terminal.ts";

/** Runs one command line in this process; returns the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const host = createNodeHost({ logLevel: "warn" });
  const interrupt = new AbortController();
  let firstMs = 0;
  const stop = (signal: NodeJS.Signals): void => {
    const nowMs = host.clock.monotonicMs();
    if (!interrupt.signal.aborted) {
      firstMs = nowMs;
      interrupt.abort(new KelpieError("closed", "interrupted"));
    } else if (nowMs - firstMs > sameRequestMs) {
      // Whoever asks again does not want to wait for anything.
      process.exit(signal === "SIGINT" ? 130 : 143);
    }
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  try {
    return await run(argv, createContext(host, interrupt.signal));
  } finally {
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }
}

/**
 * A second signal this soon is the same request: `timeout` signals the process and its group. Nobody
 * presses Ctrl-C twice as fast.
 */
const sameRequestMs = 100;

function createContext(host: Host, signal: AbortSignal): CliContext {
  return {
    host,
    stdin: standardInput(signal),
    stdout: createOutput(process.stdout),
    stderr: createOutput(process.stderr),
    env: process.env,
    signal,
    onHangup: (action) => {
      process.on("SIGHUP", action);
      return () => process.off("SIGHUP", action);
    },
    version: packageVersion(),
    pid: process.pid,
    openLocal,
    // From src/cli and from dist/cli, where it is built to in both cases.
    consoleDirectory: fileURLToPath(new URL("../../dist/web", import.meta.url)),
    // Standard input is looked at only by commands that ask for it.
    get terminal() {
      const isOne = process.stdout.isTTY === true && process.stdin.isTTY === true;
      return isOne ? createTerminal(process.stdin, process.stdout) : undefined;
    },
  };
}

/** Touched only by commands that read it: opening it would keep the others from ending. */
async function* standardInput(signal: AbortSignal): AsyncGenerator<Uint8Array> {
  yield* addAbortSignal(signal, process.stdin) as AsyncIterable<Uint8Array>;
}

function createOutput(stream: NodeJS.WriteStream): Output {
  // Without a listener it would be an uncaught error; the write's own callback has it too.
  stream.on("error", () => {});
  return {
    isTerminal: stream.isTTY === true,
    // A terminal without a size says 0.
    columns: stream.columns > 0 ? stream.columns : 100,
    write: (data) =>
      new Promise((done, fail) => {
        stream.write(data, (error) => {
          if (error === null || error === undefined) done();
          else fail("code" in error && error.code === "EPIPE" ? new BrokenPipe() : failed(error));
        });
      }),
  };
}

function failed(cause: Error): KelpieError {
  const full = "code" in cause && cause.code === "ENOSPC";
  return new KelpieError(full ? "no-space" : "io", `output: ${cause.message}`, { cause });
}

function packageVersion(): string {
  // The same two levels up from src/cli and from dist/cli.
  const manifest: unknown = createRequire(import.meta.url)("../../package.json");
  const version = (manifest as { version?: unknown }).version;
  return typeof version === "string" ? version : "unknown";
}
