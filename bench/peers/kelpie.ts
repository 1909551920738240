import { join } from "node:path";
import type { CallOutput, Control } from "../../src/control/calls.ts";
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

  get control(): Control {
    return this.#server.control;
  }

  /** Where the store is. */
  get directory(): string {
    return this.#server.store;
  }

  /** In place of the one before, whose space comes back in the background. */
  async snapshot(): Promise<void> {
    const { control } = this.#server;
    const before = `bench${this.#snapshots}`;
    const tag = `bench${++this.#snapshots}`;
    if (this.#snapshots > 1) {
      await control.call("vdi.delete", { name: disk, snapshot: before });
    }
    await control.call("vdi.snapshot", { names: [disk], tag });
  }

  info(): Promise<CallOutput<"store.info">> {
    return this.#server.control.call("store.info", {});
  }

  async stop(): Promise<void> {
    await this.#server.stop("SIGTERM");
  }
}
