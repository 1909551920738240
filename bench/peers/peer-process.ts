import { type ChildProcess, spawn } from "node:child_process";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { formatNbdUri } from "../../src/nbd/uri.ts";
import { within } from "../time-limit.ts";

const startMs = 10_000;
/** It has what is in the page cache at most to write down. */
const stopMs = 60_000;
const pollMs = 20;

/** An NBD server that is not ours, in the foreground, on a Unix socket. */
export class PeerProcess {
  readonly uri: string;
  readonly #command: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  /** Resolves when it serves; throws with what it said if it does not. */
  static async start(program: string, args: readonly string[], socket: string) {
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    const command = [program, ...args].join(" ");
    const peer = new PeerProcess(child, { command, socket });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const giveUpMs = performance.now() + startMs;
    while (!(await isServing(socket))) {
      const isOver = child.exitCode !== null || child.pid === undefined;
      if (!isOver && performance.now() < giveUpMs) {
        await sleep(pollMs);
        continue;
      }
      await peer.stop();
      throw new Error(`${command} does not serve\n${said}`);
    }
    return peer;
  }

  private constructor(
    child: ChildProcess,
    { command, socket }: { command: string; socket: string },
  ) {
    this.#child = child;
    this.#command = command;
    this.uri = formatNbdUri({ address: { kind: "unix", path: socket }, exportName: "" });
    this.#ended = new Promise((resolve) => {
      child.on("error", () => resolve());
      child.on("close", () => resolve());
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  pause(): void {
    this.#child.kill("SIGSTOP");
  }

  resume(): void {
    this.#child.kill("SIGCONT");
  }

  /** It writes down what it holds in memory, and ends. One that does not is killed, and that is an error. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    const what = `${this.#command}: to end after SIGTERM`;
    const giveUp = () => void this.#child.kill("SIGKILL");
    await within({ what, ms: stopMs, giveUp }, this.#ended);
  }
}

/**
 * Whether it greets who connects, as every NBD server does at once. That it listens is not enough: qemu-nbd
 * 7.2 forgets a SIGTERM that comes between that and its main loop, and then never ends.
 */
function isServing(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = createConnection(socket);
    const answer = (serves: boolean) => {
      connection.destroy();
      resolve(serves);
    };
    connection.on("data", () => answer(true));
    for (const event of ["error", "end", "timeout"]) connection.on(event, () => answer(false));
    connection.setTimeout(startMs);
  });
}
