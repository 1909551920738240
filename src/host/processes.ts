import { KelpieError } from "../base/errors.ts";

/** Programs of this machine. */
export interface Processes {
  /**
   * Runs a program to its end, with nothing to read. Throws "not-found" if there is no such program,
   * "io" if it cannot be run. A program that goes on in the background has come to its end when it has
   * let go of its output.
   */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<ProcessEnd>;
}

export interface RunOptions {
  /** The working directory; this process's own if absent. */
  directory?: string;
}

export interface ProcessEnd {
  /** Undefined if a signal ended it. */
  exitCode: number | undefined;
  /** The beginning of what it said. */
  stdout: string;
  stderr: string;
}

/** A machine on which nothing can be run. */
export const noProcesses: Processes = {
  run: async (program) => {
    throw new KelpieError("not-found", `there is no program ${program}`);
  },
};
