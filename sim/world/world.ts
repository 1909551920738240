import { isKelpieError, messageOf } from "../../src/base/errors.ts";
import { MemoryFiles } from "../memory-files.ts";
import { SeededRandom } from "../random.ts";
import { Actor } from "./actor.ts";
import { deleteAll, takesNothing } from "./delete-all.ts";
import { acceptSnapshots, Model, type ModelSnapshot } from "./disks.ts";
import { FaultPlan } from "./fault-plan.ts";
import { Guest } from "./guest.ts";
import { type Crashed, type CrashKind, type CrashPlan, Machine } from "./machine.ts";
import type { Operation } from "./operations.ts";
import { planWorld, type WorldPlan } from "./plan.ts";
import { readPoint } from "./read-point.ts";
import { Scheduler } from "./scheduler.ts";
import { type Trace, type TraceSettings, Trace as WorldTrace } from "./trace.ts";
import { verifyAfter } from "./verify.ts";

export type PlanLimits = Partial<Pick<WorldPlan, "guests" | "actors" | "requests" | "depth">>;

export interface WorldSettings extends TraceSettings {
  seed: number;
  /** Less than the seed plans: a smaller world that fails is easier to read. */
  limits?: PlanLimits;
}

export interface WorldReport {
  seed: number;
  digest: string;
  failure: string | undefined;
  requests: number;
  /** Structural operations that were done, by kind. */
  operations: Record<string, number>;
  crashes: number;
  /** Crashes that fell when something was written and not synced. */
  crashesWithUnsynced: number;
  faults: number;
  hostCalls: number;
  events: number;
  /** Crashes by what was under way, where they fell, and the last fault before: `a | b | c`. */
  cells: Record<string, number>;
  /** It did what a world must do to count. */
  counts: boolean;
}

const requestsMin = 300;
const operationsMin = 5;
const kindsMin = 3;
const livesMax = 10;
/** Within so much time a store finds that there is room, and tries again what did not fit. */
const noticedMs = 6000;
/** A life that goes on longer than this, in virtual time or in events, does not end. */
const lifeMsMax = 30 * 60 * 1000;
const lifeEventsMax = 200_000;
/** Who fills the disk makes room at last: a record that may stand already waits for that without end. */
const tightMsMax = 5 * 60 * 1000;

/** One seed is one world: disks, guests, those who snapshot and roll back, crashes, faults. */
export function runWorld(settings: WorldSettings): Promise<WorldReport> {
  return new World(settings).run();
}

interface Pending {
  operation: Operation;
  asked: number;
}

export class World {
  readonly seed: number;
  readonly trace: Trace;
  readonly plan: WorldPlan;
  readonly scheduler: Scheduler;
  readonly model = new Model();
  readonly #random: SeededRandom;
  #machine: Machine | undefined;
  #files = new MemoryFiles();
  #failure: string | undefined;
  #tasks = new Set<Promise<void>>();
  /** Snapshots of which it is not known yet what they hold. */
  unread: ModelSnapshot[][] = [];
  /** What was asked for and is not answered. */
  pending = new Set<Pending>();
  readonly operations = new Map<string, number>();
  /** Background work that somebody has asked for. */
  readonly background: string[] = [];
  readonly #cells = new Map<string, number>();
  /** Nobody uses the store, and all of it is read. */
  isVerifying = false;
  /** Counts may be too high, as ARCHITECTURE.md says under "Known". */
  mayLeak = false;
  #crashes = 0;
  #crashesWithUnsynced = 0;
  #faults = 0;
  #hostCalls = 0;

  constructor(settings: WorldSettings) {
    this.seed = settings.seed;
    this.trace = new WorldTrace(settings);
    this.#random = new SeededRandom(settings.seed);
    this.plan = { ...planWorld(this.#stream()), ...settings.limits };
    this.scheduler = new Scheduler({ chooser: this.#stream(), trace: this.trace });
    this.trace.say(() => `plan: ${JSON.stringify(this.plan)}`);
  }

  get machine(): Machine {
    if (this.#machine === undefined) throw new Error("no machine runs");
    return this.#machine;
  }

  async run(): Promise<WorldReport> {
    try {
      for (let life = 0; life < livesMax && !(life >= 2 && this.#isEnough()); life++) {
        await this.#live(life);
      }
      await this.#lastLife();
    } catch (error) {
      this.#failure ??= describe(error);
    }
    return this.#report();
  }

  /** Notes that something is wrong, and ends the world. */
  fail(message: string, cause?: unknown): never {
    const stack = cause instanceof Error ? `\n${cause.stack}` : "";
    this.#failure ??= message + stack;
    throw new Error(message, { cause });
  }

  /** Whether what the host has done so far is why something failed. */
  explains(error: unknown): boolean {
    if (this.machine.faults.count > 0) return isKelpieError(error);
    return this.machine.isTight && isKelpieError(error, "no-space");
  }

  /** Runs a check; what it throws is the world's failure. */
  must(check: () => void, what: string): void {
    try {
      check();
    } catch (error) {
      this.fail(`${what}: ${messageOf(error)}`, error);
    }
  }

  /** Goes on beside everything else; the life does not end before it. */
  start(task: Promise<void>): void {
    const running = task
      .catch((error: unknown) => {
        if (this.#machine?.crashed === undefined) this.#failure ??= describe(error);
      })
      .finally(() => this.#tasks.delete(running));
    this.#tasks.add(running);
  }

  /** Reads new snapshots and finds the moment that they are of. */
  readLater(group: ModelSnapshot[]): void {
    this.unread.push(group);
    if (this.isVerifying) return;
    this.start(this.#readSnapshots(group));
  }

  async #readSnapshots(group: ModelSnapshot[]): Promise<void> {
    const { machine } = this;
    const { store } = machine.vdis;
    const found: Uint32Array[] = [];
    try {
      for (const { point, sectors } of group) found.push(await readPoint(store, point, sectors));
    } catch (error) {
      // It is read again when the host is sound.
      if (this.explains(error)) return;
      throw error;
    }
    if (machine.crashed !== undefined) return;
    this.must(() => acceptSnapshots(group, found), "a new snapshot");
    this.unread = this.unread.filter((other) => other !== group);
  }

  /** From opening to a crash, or to a stop. */
  async #live(life: number): Promise<void> {
    const random = this.#stream();
    const faults = new FaultPlan(this.#stream(), random.below(3) === 0 ? 0 : random.below(7));
    const crash = crashPlan(random);
    this.background.length = 0;
    const machine = this.#newMachine(crash, faults);
    const { roomBytes } = this.plan;
    if (roomBytes !== undefined) machine.leaveRoom(roomBytes[random.below(roomBytes.length)]);
    const opened = await this.#toTheEnd(() =>
      machine.start().catch((error) => this.#opening(error)),
    );
    if (opened && machine.isOpen) {
      await this.#toTheEnd(() => this.#everybody(life, random));
      // After another fault a disk may be read-only until it is reopened.
      if (machine.isTight && faults.count === 0) await this.#toTheEnd(() => this.#useNewRoom());
    }
    if (machine.crashed === undefined) {
      faults.end();
      if (!machine.isOpen || random.below(3) > 0) {
        machine.crash(crash.kind, "quiet");
      } else {
        await this.#toTheEnd(() => machine.stop());
        if (machine.crashed === undefined) machine.stopped();
      }
    }
    await this.#afterLife(machine);
  }

  async #opening(error: unknown): Promise<void> {
    if (this.machine.crashed !== undefined || this.explains(error)) return;
    this.fail(`opening: ${messageOf(error)}`, error);
  }

  async #everybody(life: number, random: SeededRandom): Promise<void> {
    const { plan, model } = this;
    if (model.disks.size === 0) await this.#firstDisks();
    for (let guest = 0; guest < plan.guests; guest++) {
      this.start(new Guest(`guest${life}.${guest}`, this, this.#stream()).run(plan.requests));
    }
    for (let actor = 0; actor < plan.actors; actor++) {
      this.start(
        new Actor(`actor${life}.${actor}`, this, this.#stream()).run(3 + random.below(10)),
      );
    }
    await this.#tasksDone();
  }

  async #tasksDone(): Promise<void> {
    while (this.#tasks.size > 0 && this.machine.crashed === undefined) {
      await Promise.race([...this.#tasks]);
    }
  }

  /** A disk that was full and is not any more: everything works again, without opening the store. */
  async #useNewRoom(): Promise<void> {
    const { machine, scheduler } = this;
    machine.faults.end();
    machine.leaveRoom();
    await scheduler.sleep(noticedMs);
    machine.isTight = false;
    await machine.vdis.store.clean();
    await new Guest("late guest", this, this.#stream()).run(10);
    await new Actor("late actor", this, this.#stream()).run(3);
    await this.#tasksDone(); // its snapshots are read
  }

  async #firstDisks(): Promise<void> {
    const actor = new Actor("first", this, this.#stream());
    for (let disk = 0; disk < this.plan.disks; disk++) await actor.createDisk();
  }

  /** The host is sound, nobody is there: everything must be as the model says. */
  async #lastLife(): Promise<void> {
    const machine = this.#newMachine(never, new FaultPlan(this.#stream(), 0));
    await this.#toTheEnd(() => machine.start());
    await this.#toTheEnd(() => verifyAfter(this, { isLast: true }));
    await this.#toTheEnd(() => deleteAll(this));
    await this.#toTheEnd(() => machine.stop());
    // Files that were only read are closed by the way.
    await this.#toTheEnd(() => this.scheduler.sleep(1000));
    if (!this.mayLeak) takesNothing(this);
    this.#hostCalls += machine.calls;
  }

  /** Takes up what a life left, and holds it against the model. */
  async #afterLife(before: Machine): Promise<void> {
    this.scheduler.clear();
    this.#tasks.clear();
    const left = before.crashed;
    this.#hostCalls += before.calls;
    this.#faults += before.faults.count;
    if (before.faults.hasHiddenMaps) this.mayLeak = true;
    if (left === undefined) return this.fail("a life ended without an end");
    if (left.site !== "stopped") this.#noteCrash(before, left);
    this.#files = left.files;
    const machine = await this.#recover(left);
    await this.#toTheEnd(() => verifyAfter(this, { isLast: false, left }));
    await this.#toTheEnd(() => machine.stop());
    this.#hostCalls += machine.calls;
    this.#files = machine.stopped().files;
    this.scheduler.clear();
  }

  /** Opens what is left; that may be cut off as well, by another crash. */
  async #recover(left: Crashed): Promise<Machine> {
    const random = this.#stream();
    for (let again = random.below(3); again > 0; again--) {
      const { kind } = crashPlan(random);
      const crash = { atCall: 1 + random.below(200), kind, afterFault: Number.POSITIVE_INFINITY };
      const machine = this.#newMachine(crash, new FaultPlan(random, 0));
      if (await this.#toTheEnd(() => machine.start())) machine.crash(kind, "quiet");
      const { crashed } = machine;
      if (crashed === undefined) break;
      this.#hostCalls += machine.calls;
      this.#noteCrash(machine, crashed);
      // Once power has gone, what was answered and not flushed may be gone too.
      if (crashed.kind !== "process") left.keepsAnswered = left.keepsAnswered && machine.wasOpen;
      this.#files = crashed.files;
      this.scheduler.clear();
    }
    const machine = this.#newMachine(never, new FaultPlan(random, 0));
    await this.#toTheEnd(() => machine.start());
    return machine;
  }

  #noteCrash(machine: Machine, left: Crashed): void {
    this.#crashes++;
    if (left.unsyncedBytes > 0) this.#crashesWithUnsynced++;
    const kinds = new Set([...this.pending].map(({ operation }) => operation.kind));
    for (const kind of this.background) kinds.add(kind);
    if (!machine.wasOpen) {
      kinds.clear();
      kinds.add("opening");
    }
    if (kinds.size === 0) kinds.add("requests");
    for (const kind of kinds) {
      const cell = `${kind} | ${left.site} | ${machine.lastFault}`;
      this.#cells.set(cell, (this.#cells.get(cell) ?? 0) + 1);
    }
  }

  #newMachine(crash: CrashPlan, faults: FaultPlan): Machine {
    const { scheduler, trace, plan } = this;
    const random = this.#stream();
    const files = this.#files;
    const now = (): number => this.model.now();
    this.#machine = new Machine({ files, scheduler, random, trace, plan, crash, faults, now });
    this.#machine.leaveRoom();
    return this.#machine;
  }

  /** Lets things happen until `action` is done or the machine has crashed. False if it has. */
  async #toTheEnd(action: () => Promise<void>): Promise<boolean> {
    const { scheduler, machine } = this;
    let isDone = false;
    let error: unknown;
    const firstMs = scheduler.monotonicMs();
    const firstEvents = scheduler.events;
    action()
      .catch((caught: unknown) => {
        error = caught ?? new Error("it failed with nothing");
      })
      .finally(() => {
        isDone = true;
      });
    await scheduler.turn();
    while (!isDone && machine.crashed === undefined && this.#failure === undefined) {
      if (!(await scheduler.step())) this.fail("nothing will ever happen again");
      const tookMs = scheduler.monotonicMs() - firstMs;
      if (this.plan.roomBytes !== undefined && tookMs > tightMsMax) machine.leaveRoom();
      if (tookMs > lifeMsMax || scheduler.events - firstEvents > lifeEventsMax)
        this.fail("it does not end");
    }
    if (this.#failure !== undefined) throw new Error(this.#failure);
    if (machine.crashed !== undefined) return false;
    if (error !== undefined) throw error;
    return true;
  }

  #stream(): SeededRandom {
    return new SeededRandom(this.#random.below(2 ** 32));
  }

  #isEnough(): boolean {
    const kinds = this.operations.size;
    const total = [...this.operations.values()].reduce((sum, count) => sum + count, 0);
    return (
      this.model.requests >= requestsMin &&
      total >= operationsMin &&
      kinds >= kindsMin &&
      this.#crashesWithUnsynced > 0
    );
  }

  #report(): WorldReport {
    return {
      seed: this.seed,
      digest: this.trace.digest,
      failure: this.#failure,
      requests: this.model.requests,
      operations: Object.fromEntries(this.operations),
      crashes: this.#crashes,
      crashesWithUnsynced: this.#crashesWithUnsynced,
      faults: this.#faults,
      cells: Object.fromEntries(this.#cells),
      hostCalls: this.#hostCalls,
      events: this.scheduler.events,
      counts: this.#isEnough(),
    };
  }
}

const infinite = Number.POSITIVE_INFINITY;
const never: CrashPlan = { atCall: infinite, kind: "power", afterFault: infinite };

function crashPlan(random: SeededRandom): CrashPlan {
  const kinds: CrashKind[] = ["power", "power", "power", "power-keeping-nothing", "process"];
  const kind = kinds[random.below(kinds.length)] as CrashKind;
  const range = [100, 1000, 3000, infinite][random.below(4)] as number;
  const atCall = range === infinite ? range : 1 + random.below(range);
  return { atCall, kind, afterFault: random.below(2) === 0 ? infinite : 1 + random.below(60) };
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.stack ?? error.message;
}
