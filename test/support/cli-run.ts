import type { CliContext, LocalStore, OpenLocalOptions, Output } from "../../src/cli/context.ts";
import { run } from "../../src/cli/program.ts";
import type { Terminal } from "../../src/cli/terminal.ts";
import type { Host } from "../../src/host/host.ts";
import { silentLog } from "../../src/host/log.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";

export interface CliResult {
  exitCode: number;
  readonly stdout: string;
  stdoutBytes: Buffer;
  stderr: string;
}

export interface CliSettings {
  store: LocalStore;
  /** The directory that is passed as $KELPIE_STORE; where no server is, it need not exist. */
  directory?: string;
  stdin?: AsyncIterable<Uint8Array>;
  signal?: AbortSignal;
  terminal?: boolean;
  /** What a person types on, who sits at the terminal. */
  keyboard?: Terminal;
  /** In place of opening `store`. */
  openLocal?: (url: string, options: OpenLocalOptions) => Promise<LocalStore>;
  /** Parts of the outside world to replace. */
  host?: Partial<Host>;
  /** Besides $KELPIE_STORE. */
  env?: Record<string, string>;
  /** Sees what is written as it is written. */
  onStdout?: (text: string) => void;
}

/** Runs one command line in this process, with captured output, against a store of the test's. */
export async function runCli(argv: readonly string[], settings: CliSettings): Promise<CliResult> {
  const out = capture(settings.terminal === true, settings.onStdout);
  const err = capture(settings.terminal === true);
  const context: CliContext = {
    host: { ...createNodeHost({ logLevel: "silent" }), log: silentLog, ...settings.host },
    stdin: settings.stdin ?? bytesOf(),
    stdout: out.output,
    stderr: err.output,
    env: { KELPIE_STORE: settings.directory ?? "/nonexistent/kelpie-test", ...settings.env },
    signal: settings.signal ?? new AbortController().signal,
    version: "0.0.0-test",
    pid: 4711,
    terminal: settings.keyboard,
    openLocal: settings.openLocal ?? (async () => settings.store),
  };
  const exitCode = await run(argv, context);
  const stdoutBytes = out.bytes();
  return {
    exitCode,
    // Only if asked for: as text the contents of a disk take longer than the disk.
    get stdout() {
      return stdoutBytes.toString();
    },
    stdoutBytes,
    stderr: err.bytes().toString(),
  };
}

export async function* bytesOf(...chunks: (Uint8Array | string)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
}

function capture(
  isTerminal: boolean,
  seen?: (text: string) => void,
): { output: Output; bytes: () => Buffer } {
  const chunks: Uint8Array[] = [];
  return {
    bytes: () => Buffer.concat(chunks),
    output: {
      isTerminal,
      columns: 100,
      async write(data) {
        chunks.push(typeof data === "string" ? Buffer.from(data) : data.slice());
        seen?.(typeof data === "string" ? data : "");
      },
    },
  };
}
