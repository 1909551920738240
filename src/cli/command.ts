import type { Command } from "commander";
import type { CliContext } from "./context.ts";
import { s3OptionsOf } from "./s3-place.ts";
import { openSession, type Session } from "./session.ts";
import { hintAtSnapshot } from "./snapshot-name.ts";

/** What a command needs to run: its surroundings, and a way to say how it went. */
export interface Cli {
  readonly context: CliContext;
  /** Runs a command's body on the store the command line names, and keeps its exit code. */
  onStore(command: Command, body: CommandBody, options?: OnStoreOptions): Promise<void>;
  /** Runs a command's body that finds its store itself. */
  run(body: () => Promise<number>): Promise<void>;
}

export interface OnStoreOptions {
  /** Make a store if there is none. */
  create?: boolean;
  /** Open it even where data is gone that had been synced. */
  acceptDamage?: boolean;
}

/** Returns the exit code; nothing means 0. */
export type CommandBody = (session: Session, printer: Printer) => Promise<number | undefined>;

/** Results go to standard output: as JSON when that was asked for, else as text. */
export interface Printer {
  readonly json: boolean;
  print(value: unknown, text: () => string): Promise<void>;
}

export interface GlobalOptions {
  store?: string;
  json?: boolean;
  local?: string;
  s3Endpoint?: string;
  s3Region?: string;
  s3PathStyle?: "on" | "off";
}

export interface Outcome {
  exitCode: number;
}

export function createCli(context: CliContext, outcome: Outcome): Cli {
  return {
    context,
    async onStore(command, body, options = {}) {
      const globals = command.optsWithGlobals<GlobalOptions>();
      const { store, local, json = false } = globals;
      const place = { store, local, s3: s3OptionsOf(globals) };
      const session = await openSession(context, { ...place, create: false, ...options });
      try {
        outcome.exitCode = (await body(session, createPrinter(context, json))) ?? 0;
      } catch (error) {
        throw hintAtSnapshot(error, command);
      } finally {
        await session.close();
      }
    },
    async run(body) {
      outcome.exitCode = await body();
    },
  };
}

export function createPrinter(context: CliContext, json: boolean): Printer {
  return {
    json,
    async print(value, text) {
      await context.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : withEnd(text()));
    },
  };
}

function withEnd(text: string): string {
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}
