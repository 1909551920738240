import assert from "node:assert/strict";
import { join } from "node:path";
import { parseAddress } from "../../src/cli/addresses.ts";
import type { CallInput, CallName, CallOutput } from "../../src/control/calls.ts";
import type { Address } from "../../src/host/net.ts";
import { ServerProcess } from "../../test/support/server-process.ts";
import { within } from "../time-limit.ts";
import type { BenchServer } from "./server.ts";

const disk = "disk";
const startMs = 60_000;
/** Of one call: cleaning a store takes seconds, everything else milliseconds. */
const callMs = 120_000;
const stopMs = 60_000;

/** `kelpie serve` in a process of its own, on a store of its own. */
export class Kelpie implements BenchServer {
  readonly name = "Kelpie";
  readonly disk = disk;
  readonly #server: ServerProcess;
  #snapshots = 0;

  /** With flags for `kelpie serve` besides. */
  static async start(options: {
    directory: string;
    sizeBytes: number;
    flags?: readonly string[];
  }): Promise<Kelpie> {
    const { directory, sizeBytes, flags = [] } = options;
    const sheepdog = `unix:${join(directory, "sheepdog.sock")}`;
    const starting = ServerProcess.start(join(directory, "store"), [
      ...["--sheepdog", sheepdog],
      ...flags,
    ]);
    const server = await within({ what: "kelpie serve: to listen", ms: startMs }, starting);
    const kelpie = new Kelpie(server);
    await kelpie.call("vdi.create", { name: disk, sizeBytes });
    return kelpie;
  }

  private constructor(server: ServerProcess) {
    this.#server = server;
  }

  get uri(): string {
    return this.#server.uri(disk);
  }

  /** Where it speaks NBD. */
  get address(): Address {
    return this.#server.address();
  }

  /** Where it speaks Sheepdog. */
  get sheepdog(): Address {
    const address = parseAddress(this.#server.sheepdog);
    assert.ok(address !== "off");
    return address;
  }

  /** Where the store is. */
  get directory(): string {
    return this.#server.store;
  }

  async snapshot(): Promise<void> {
    const tag = `bench${this.#snapshots++}`;
    await this.call("vdi.snapshot", { names: [disk], tag });
  }

  async deleteSnapshots(): Promise<void> {
    for (; this.#snapshots > 0; this.#snapshots--) {
      const snapshot = `bench${this.#snapshots - 1}`;
      await this.call("vdi.delete", { name: disk, snapshot });
    }
  }

  /** Cleans now what it would clean in the next seconds, so that the next figure does not pay for it. */
  async settle(): Promise<void> {
    await this.call("store.clean", {});
  }

  info(): Promise<CallOutput<"store.info">> {
    return this.call("store.info", {});
  }

  pause(): void {
    if (this.#server.isRunning) process.kill(this.#server.pid, "SIGSTOP");
  }

  resume(): void {
    if (this.#server.isRunning) process.kill(this.#server.pid, "SIGCONT");
  }

  async stop(): Promise<void> {
    const what = "kelpie serve: to end after SIGTERM";
    const giveUp = () => void this.#server.stop("SIGKILL");
    await within({ what, ms: stopMs, giveUp }, this.#server.stop("SIGTERM"));
  }

  call<N extends CallName>(name: N, input: CallInput<N>): Promise<CallOutput<N>> {
    const what = `kelpie serve: the call ${name}`;
    return within({ what, ms: callMs }, this.#server.control.call(name, input));
  }
}
