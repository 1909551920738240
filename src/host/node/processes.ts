import { spawn } from "node:child_process";
import { KelpieError, messageOf } from "../../base/errors.ts";
import type { ProcessEnd, Processes } from "../processes.ts";
import { errnoOf } from "./file-errors.ts";

/** What is kept of what a program says: enough for its complaint. */
const outputBytesMax = 2 ** 20;

export function createNodeProcesses(): Processes {
  return {
    run: (program, args, options = {}) =>
      new Promise<ProcessEnd>((resolve, reject) => {
        const { directory } = options;
        const child = spawn(program, [...args], {
          stdio: ["ignore", "pipe", "pipe"],
          ...(directory === undefined ? {} : { cwd: directory }),
        });
        const said = { stdout: collect(child.stdout), stderr: collect(child.stderr) };
        child.once("error", (error) => reject(spawnError(program, error)));
        child.once("close", (code) => {
          const texts = { stdout: said.stdout(), stderr: said.stderr() };
          resolve({ exitCode: code ?? undefined, ...texts });
        });
      }),
  };
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let length = 0;
  stream.on("data", (chunk: Buffer) => {
    if (length < outputBytesMax) chunks.push(chunk.subarray(0, outputBytesMax - length));
    length += chunk.length;
  });
  return () => Buffer.concat(chunks).toString("utf8");
}

function spawnError(program: string, cause: Error): KelpieError {
  if (errnoOf(cause) === "ENOENT") {
    return new KelpieError("not-found", `there is no program ${program}`, { cause });
  }
  return new KelpieError("io", `${program} cannot be run: ${messageOf(cause)}`, { cause });
}
