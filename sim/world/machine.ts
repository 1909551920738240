import { assert } from "../../src/base/assert.ts";
import { type LocalStore, openLocalStore } from "../../src/control/local-store.ts";
import type { Host } from "../../src/host/host.ts";
import type { Connection } from "../../src/host/net.ts";
import { noProcesses } from "../../src/host/processes.ts";
import { createNbdServer, type NbdServer } from "../../src/nbd/server.ts";
import { SheepdogServer } from "../../src/sheepdog/server.ts";
import type { FileOperation, OperationEvent } from "../memory-faults.ts";
import type { MemoryFiles } from "../memory-files.ts";
import { MemoryNet } from "../memory-net.ts";
import { SeededRandom } from "../random.ts";
import type { FaultKind, FaultPlan } from "./fault-plan.ts";
import type { Moment } from "./model.ts";
import type { WorldPlan } from "./plan.ts";
import type { Scheduler } from "./scheduler.ts";
import { siteOf } from "./sites.ts";
import type { Trace } from "./trace.ts";

export type CrashKind = "power" | "power-keeping-nothing" | "process";

export interface CrashPlan {
  /** The machine stops at its n-th call; `Infinity` for never. */
  atCall: number;
  kind: CrashKind;
  /** So many calls after the first fault, if that is earlier. */
  afterFault: number;
}

/** What a crash left, and where it fell. */
export interface Crashed {
  files: MemoryFiles;
  kind: CrashKind;
  site: string;
  /** Of files that had a name. */
  unsyncedBytes: number;
  /** All that was answered is there: only the process is gone. */
  keepsAnswered: boolean;
  moment: Moment;
}

export interface MachineComponents {
  files: MemoryFiles;
  scheduler: Scheduler;
  random: SeededRandom;
  trace: Trace;
  plan: WorldPlan;
  crash: CrashPlan;
  faults: FaultPlan;
  now: () => Moment;
}

export const nbdAddress = { kind: "unix", path: "/store/nbd.sock" } as const;
export const sheepdogAddress = { kind: "unix", path: "/store/sock" } as const;

/** One life of a machine: from its start to a crash, or until it is stopped. */
export class Machine {
  readonly host: Host;
  readonly files: MemoryFiles;
  readonly faults: FaultPlan;
  readonly #parts: MachineComponents;
  readonly #connections: Connection[] = [];
  #local: LocalStore | undefined;
  #server: NbdServer | undefined;
  #sheepdog: SheepdogServer | undefined;
  #calls = 0;
  #crashAt: number;
  /** The kind of the fault that was met last. */
  lastFault: FaultKind | "cut" | "full" | "none" = "none";
  #refusals = 0;
  /** The host's disk may be full, or may have been until a moment ago. */
  isTight = false;
  crashed: Crashed | undefined;
  /** Connections that were cut, ever: then an answer may be missing. */
  cuts = 0;

  constructor(components: MachineComponents) {
    const { files, scheduler, random, trace } = components;
    this.#parts = components;
    this.files = files;
    this.faults = components.faults;
    this.#crashAt = components.crash.atCall;
    files.before = (event) => this.#before(event);
    files.after = (event) => this.#after(event);
    files.decideFaults((event) => this.#fault(event));
    const logLine = (event: string, fields: object = {}): void => {
      trace.say(() => `log: ${event} ${JSON.stringify(fields)}`);
    };
    this.host = {
      clock: scheduler,
      timers: scheduler,
      random: new SeededRandom(random.below(2 ** 32)),
      files,
      net: new MemoryNet({ soon: (action) => void scheduler.at(this.#netDelay(), "net", action) }),
      processes: noProcesses,
      log: { debug: logLine, info: logLine, warn: logLine, error: logLine },
    };
  }

  /** The store has been opened, whatever came afterwards. */
  get wasOpen(): boolean {
    return this.#local !== undefined;
  }

  get isOpen(): boolean {
    return this.#local !== undefined && this.#sheepdog !== undefined;
  }

  get local(): LocalStore {
    assert(this.#local !== undefined, "the store is open");
    return this.#local;
  }

  get vdis(): LocalStore["vdis"] {
    return this.local.vdis;
  }

  get calls(): number {
    return this.#calls;
  }

  /** The composition of `kelpie serve`, less the control socket. */
  async start(): Promise<void> {
    const { plan } = this.#parts;
    const { host } = this;
    const keep = plan.keepDiscarded === undefined ? {} : { keepDiscarded: plan.keepDiscarded };
    this.#local = await openLocalStore(
      { directory: "/store", create: true, ...plan.store, ...keep },
      { host },
    );
    const { net, timers, log } = host;
    this.#server = await createNbdServer(
      { addresses: [nbdAddress] },
      { net, timers, log, exports: this.#local.exports },
    );
    this.#sheepdog = new SheepdogServer(
      { allowAdmin: false },
      { net, timers, log, ...this.#local.sheepdog, stop: () => {} },
    );
    await this.#sheepdog.listen(sheepdogAddress);
  }

  async stop(): Promise<void> {
    await this.#server?.close();
    await this.#sheepdog?.close();
    await this.#local?.close();
  }

  /** Connects, so that the connection can be cut. */
  get net(): Host["net"] {
    const { net } = this.host;
    return {
      listen: (address, accept) => net.listen(address, accept),
      tlsContext: (identity) => net.tlsContext(identity),
      connect: async (address) => {
        const connection = await net.connect(address);
        this.#connections.push(connection);
        return connection;
      },
    };
  }

  /** Something has begun during which the machine shall stop: at the latest in so many calls. */
  crashWithin(calls: number): void {
    this.#crashAt = Math.min(this.#crashAt, this.#calls + calls);
  }

  /** Cuts a connection, if there is one. */
  cut(): void {
    const at = this.#parts.random.below(this.#connections.length + 1);
    const [connection] = this.#connections.splice(at, 1);
    if (connection === undefined) return;
    this.cuts++;
    this.lastFault = "cut";
    this.#parts.trace.note("a connection is cut");
    connection.destroy();
  }

  /** Power goes, or the process dies. What was answered until now counts, and nothing else. */
  crash(kind: CrashKind, site: string): void {
    const { files } = this;
    const { trace, random } = this.#parts;
    const { unsyncedBytes } = files;
    trace.note(`crash: ${kind} at ${site}`);
    const left =
      kind === "power"
        ? files.crash(random)
        : kind === "process"
          ? files.crashKeepingEverything()
          : files.crashKeepingNothing();
    this.#ended(left, { kind, site, unsyncedBytes });
  }

  /** It has closed everything, and nothing runs any more. */
  stopped(): Crashed {
    const { files } = this;
    const end = { kind: "process", site: "stopped", unsyncedBytes: 0 } as const;
    return this.#ended(files.crashKeepingEverything(), end);
  }

  #ended(
    files: MemoryFiles,
    end: { kind: CrashKind; site: string; unsyncedBytes: number },
  ): Crashed {
    const keepsAnswered =
      end.kind === "process" && this.faults.met.get("dropped pages") === undefined;
    this.crashed = { files, keepsAnswered, moment: this.#parts.now(), ...end };
    return this.crashed;
  }

  /** Somebody else who uses the host's disk leaves this much room; all there is by default. */
  leaveRoom(bytes: number = diskBytes): void {
    const { usedBytes } = this.files.fullness;
    this.files.leaveRoom(usedBytes + bytes);
    this.#parts.trace.note(`${bytes} bytes of the disk are free`);
    if (bytes < diskBytes) this.isTight = true;
  }

  /** Writes that did not fit, since the machine was started. */
  get refusals(): number {
    return this.files.fullness.refusals;
  }

  #noteRefusals(): void {
    if (this.refusals === this.#refusals) return;
    this.#refusals = this.refusals;
    this.lastFault = "full";
    this.#parts.trace.note("the disk is full");
    this.crashWithin(this.#parts.crash.afterFault);
  }

  #before(event: OperationEvent): void | Promise<void> {
    const { crash, plan } = this.#parts;
    if (this.crashed !== undefined) return;
    this.#noteRefusals();
    this.#calls++;
    if (this.#calls >= this.#crashAt) return this.crash(crash.kind, siteOf(event));
    if (event.operation === "tryRead") return this.#chance(4) ? Promise.resolve() : undefined;
    return this.#hold(event, quick.has(event.operation) ? plan.atOnce + 1 : plan.atOnce, "");
  }

  #after(event: OperationEvent): void | Promise<void> {
    if (this.crashed !== undefined) return;
    this.#noteRefusals();
    return this.#hold(event, 13, "answer of ");
  }

  #hold(event: OperationEvent, atOnce: number, prefix: string): void | Promise<void> {
    const { random, scheduler, plan } = this.#parts;
    if (random.below(16) < atOnce) return;
    const isLate = random.below(16) < plan.late;
    const delayMs = isLate ? random.below(this.#chance(16) ? 2000 : 20) / 4 : 0;
    return scheduler.sleep(delayMs, `${prefix}${event.operation} ${event.path}`);
  }

  #fault(event: OperationEvent): ReturnType<FaultPlan["meet"]> {
    if (this.crashed !== undefined) return undefined;
    const fault = this.faults.meet(event);
    if (fault !== undefined) {
      this.lastFault = this.faults.lastKind;
      this.crashWithin(this.#parts.crash.afterFault);
      this.#parts.trace.note(`fault: ${fault.code ?? "io"} ${event.operation} ${event.path}`);
    }
    return fault;
  }

  #netDelay(): number {
    return this.#chance(8) ? this.#parts.random.below(40) / 8 : 0;
  }

  #chance(of: number): boolean {
    return this.#parts.random.below(of) === 0;
  }
}

/** As good as without end. */
const diskBytes = 2 ** 30;

/** What mostly completes without waiting. */
const quick = new Set<FileOperation>(["write", "read", "size"]);
