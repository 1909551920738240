import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { runTool } from "./tools.ts";

/** Runs commands of qemu-io on a disk; each must succeed, patterns it reads included. */
export async function qemuIo(
  uri: string,
  commands: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  const args = commands.flatMap((command) => ["-c", command]);
  mustBeGood(await runTool("qemu-io", ["-f", "raw", ...options, ...args, uri]));
}

/** A qemu-io that stays connected, as a virtual machine would. */
export class QemuIoSession implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #ended: Promise<void>;
  #said = "";
  #prompts: (() => void)[] = [];

  /** `program` may be another qemu-io than that of the distribution. */
  static async open(uri: string, program = "qemu-io"): Promise<QemuIoSession> {
    const session = new QemuIoSession(uri, program);
    await session.#prompt();
    return session;
  }

  private constructor(uri: string, program: string) {
    this.#child = spawn(program, ["-f", "raw", uri], { stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdout.on("data", (chunk: Buffer) => {
      this.#said += chunk.toString();
      if (this.#said.endsWith("qemu-io> ")) this.#prompts.shift()?.();
    });
    this.#ended = new Promise((resolve) => {
      this.#child.on("close", () => {
        for (const wake of this.#prompts) wake();
        resolve();
      });
    });
  }

  /** What a command printed, whether it succeeded or not. */
  async try(command: string): Promise<string> {
    this.#said = "";
    this.#child.stdin.write(`${command}\n`);
    await this.#prompt();
    return this.#said;
  }

  async run(command: string): Promise<void> {
    mustBeGood(await this.try(command));
  }

  async close(): Promise<void> {
    this.#child.stdin.end();
    await this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #prompt(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#prompts.push(() => {
        if (this.#said.endsWith("qemu-io> ")) resolve();
        else reject(new Error(`qemu-io ended: ${this.#said}`));
      });
    });
  }
}

function mustBeGood(said: string): void {
  assert.doesNotMatch(said, /failed|error/i);
}
