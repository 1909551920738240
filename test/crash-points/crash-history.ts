import assert from "node:assert/strict";
import type { MemoryDisk } from "../../sim/memory-disk.ts";
import type { MemoryHost } from "../../sim/memory-host.ts";
import type { LocalStore } from "../../src/control/local-store.ts";
import { CaseWorld, makeFamily, openCaseStore } from "../fail-at-n/case-world.ts";
import { type DiskMoment, type Machine, startMachine } from "./forking-machine.ts";
import { textOf, type VisibleState, visibleState } from "./visible-state.ts";

/** A moment at which power may go, and what may then be found. */
export interface CrashPoint {
  moment: DiskMoment;
  /** The step that was under way, and which of its changes to the disk comes next. */
  where: string;
  possible: readonly VisibleState[];
}

/** What a step does to what may be found after a crash. */
export type StepKind =
  /** The loose disk holds something else: until it is flushed it may or may not. */
  | "write"
  /** Nothing to be seen changes, and all that was before it is safe. */
  | "flush"
  /** Names and snapshots change; the loose disk keeps what it has, safe or not. */
  | "change"
  /** Names and snapshots change, and success says that the loose disk is safe too. */
  | "covering change"
  /** Nothing to be seen changes. */
  | "upkeep";

const keepsAll = { below: () => 1 };
const nothing: VisibleState = { structure: "", loose: "" };

/** A store, what is done to it, and every moment of that at which it could crash. */
export class CrashHistory {
  readonly points: CrashPoint[] = [];
  #machine: Machine;
  #world: CaseWorld | undefined;
  #current = nothing;
  #possible: readonly VisibleState[] = [nothing];
  /** Told before each change of the disk, in a step that is recorded. */
  #record: ((change: string) => void) | undefined;

  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
    this.#machine = this.#start();
  }

  get world(): CaseWorld {
    assert.ok(this.#world !== undefined, "the store is open");
    return this.#world;
  }

  get store(): LocalStore {
    return this.world.store;
  }

  get host(): MemoryHost {
    return this.#machine.host;
  }

  get current(): VisibleState {
    return this.#current;
  }

  async open(create = false): Promise<void> {
    this.#world = new CaseWorld(await openCaseStore(this.host, create));
  }

  /**
   * The family of `makeFamily`, in a store that was closed and opened again. `settled`: so long ago
   * that all of it is durable, what nobody synced too, such as names that were removed; then a crash
   * can lose only what the history does.
   */
  async begin(
    options: {
      settled?: boolean;
      prepare?: ((world: CaseWorld) => Promise<void>) | undefined;
    } = {},
  ): Promise<void> {
    const { settled = true, prepare } = options;
    await this.open(true);
    await makeFamily(this.world);
    await prepare?.(this.world);
    await this.store.close();
    if (settled) this.#machine = this.#start(this.#machine.moment().afterPowerLoss(keepsAll));
    await this.open();
    this.#current = await visibleState(this.store);
    this.#possible = [this.#current];
  }

  /** A step during which no crash is looked at. */
  async quietly(kind: StepKind, action: () => Promise<unknown>): Promise<void> {
    await action();
    await this.#became(kind);
  }

  /** A step, with a crash before each change that it makes to the disk, and one when it is done. */
  async step(name: string, kind: StepKind, action: () => Promise<unknown>): Promise<void> {
    const from = this.points.length;
    await this.#recording(name, action);
    const before = this.#possible;
    await this.#became(kind);
    const during = [...before];
    for (const state of this.#possible) {
      if (!during.some((other) => textOf(other) === textOf(state))) during.push(state);
    }
    this.#allow(from, during);
  }

  /** For steps that fit no kind: says itself what may be found meanwhile, and then. */
  async stepTo(
    name: string,
    action: () => Promise<{ during: VisibleState[]; afterwards: VisibleState[] }>,
  ): Promise<void> {
    const from = this.points.length;
    let result: Awaited<ReturnType<typeof action>> | undefined;
    await this.#recording(name, async () => {
      result = await action();
    });
    assert.ok(result !== undefined);
    this.#possible = result.afterwards;
    this.#current = result.afterwards.at(-1) ?? this.#current;
    this.#allow(from, result.during);
  }

  /** Closes the store: everything is safe. */
  async close(name: string): Promise<void> {
    await this.stepTo(name, async () => {
      const during = [...this.#possible];
      await this.store.close();
      return { during, afterwards: [this.#current] };
    });
  }

  #start(disk?: MemoryDisk): Machine {
    const settings = { seed: this.#seed, ...(disk === undefined ? {} : { disk }) };
    return startMachine(settings, (change) => this.#record?.(change));
  }

  async #recording(name: string, action: () => Promise<unknown>): Promise<void> {
    let count = 0;
    this.#record = (change) => {
      const where = `${name}, before change ${++count}: ${change}`;
      this.points.push({ moment: this.#machine.moment(), where, possible: [] });
    };
    try {
      await action();
    } finally {
      this.#record = undefined;
    }
  }

  #allow(from: number, during: readonly VisibleState[]): void {
    for (const point of this.points.slice(from)) point.possible = during;
    const where = `${this.points.at(-1)?.where.split(",")[0] ?? "the beginning"}, done`;
    this.points.push({ moment: this.#machine.moment(), where, possible: this.#possible });
  }

  async #became(kind: StepKind): Promise<void> {
    const before = this.#current;
    const after = await visibleState(this.store);
    this.#current = after;
    switch (kind) {
      case "write":
        assert.equal(after.structure, before.structure);
        this.#possible = [...this.#possible, after];
        break;
      case "flush":
        assert.equal(textOf(after), textOf(before));
        this.#possible = [after];
        break;
      case "upkeep":
        assert.equal(textOf(after), textOf(before));
        break;
      case "change":
        assert.equal(after.loose, before.loose);
        this.#possible = this.#possible.map(({ loose }) => ({ ...after, loose }));
        break;
      case "covering change":
        this.#possible = [after];
        break;
    }
  }
}
