import { join } from "node:path";
import type { CallOutput } from "../../src/control/calls.ts";
import { ServerProcess } from "../../test/support/server-process.ts";
import type { BenchServer } from "./server.ts";

const disk = "disk";

/** `kelpie serve` in a process of its own, on a store of its own. */
export class Kelpie implements BenchServer {
  readonly name = "Kelpie";
  readonly #server: ServerProcess;
  #snapshots = 0;

  static async start(options: { directory: string; sizeBytes: number }): Promise<Kelpie> {
    const server = await ServerProcess.start(join(options.directory, "store"));
    await server.control.call("vdi.create", { name: disk, sizeBytes: options.sizeBytes });
    return new Kelpie(server);
  }

  private constructor(server: ServerProcess) {
    this.#server = server;
  }

  get uri(): string {
    return this.#server.uri(disk);
  }

  /** Where the store is. */
  get directory(): string {
    return this.#server.store;
  }

  async snapshot(): Promise<void> {
    const tag = `bench${this.#snapshots++}`;
    await this.#server.control.call("vdi.snapshot", { names: [disk], tag });
  }

  async deleteSnapshots(): Promise<void> {
    for (; this.#snapshots > 0; this.#snapshots--) {
      const snapshot = `bench${this.#snapshots - 1}`;
      await this.#server.control.call("vdi.delete", { name: disk, snapshot });
    }
  }

  /** Cleans now what it would clean in the next seconds, so that the next figure does not pay for it. */
  async settle(): Promise<void> {
    await this.#server.control.call("store.clean", {});
  }

  info(): Promise<CallOutput<"store.info">> {
    return this.#server.control.call("store.info", {});
  }

  pause(): void {
    if (this.#server.isRunning) process.kill(this.#server.pid, "SIGSTOP");
  }

  resume(): void {
    if (this.#server.isRunning) process.kill(this.#server.pid, "SIGCONT");
  }

  async stop(): Promise<void> {
    await this.#server.stop("SIGTERM");
  }
}
