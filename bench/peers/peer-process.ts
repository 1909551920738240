import { type ChildProcess, spawn } from "node:child_process";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { formatNbdUri } from "../../src/nbd/uri.ts";

const startMs = 10_000;
const pollMs = 20;

/** An NBD server that is not ours, in the foreground, listening on a Unix socket. */
export class PeerProcess {
  readonly uri: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  /** Resolves when it answers on its socket; throws with what it said if it does not. */
  static async start(program: string, args: readonly string[], socket: string) {
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    const peer = new PeerProcess(child, socket);
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const giveUpMs = performance.now() + startMs;
    while (!(await isListening(socket))) {
      const isOver = child.exitCode !== null || child.pid === undefined;
      if (!isOver && performance.now() < giveUpMs) {
        await sleep(pollMs);
        continue;
      }
      await peer.stop();
      throw new Error(`${program} ${args.join(" ")} does not listen\n${said}`);
    }
    return peer;
  }

  private constructor(child: ChildProcess, socket: string) {
    this.#child = child;
    this.uri = formatNbdUri({ address: { kind: "unix", path: socket }, exportName: "" });
    this.#ended = new Promise((resolve) => {
      child.on("error", () => resolve());
      child.on("close", () => resolve());
    });
  }

  pause(): void {
    this.#child.kill("SIGSTOP");
  }

  resume(): void {
    this.#child.kill("SIGCONT");
  }

  /** It writes down what it holds in memory, and ends. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#ended;
  }
}

function isListening(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = createConnection(socket);
    connection.on("error", () => resolve(false));
    connection.on("connect", () => {
      connection.destroy();
      resolve(true);
    });
  });
}
