import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import type { MemoryDisk } from "../../sim/memory-disk.ts";
import { SeededRandom } from "../../sim/random.ts";
import { isKelpieError, KelpieError, messageOf } from "../../src/base/errors.ts";
import { type Machine, startMachine } from "../crash-points/forking-machine.ts";
import {
  assertNothingLeaks,
  assertUndamaged,
  looseName,
  textOf,
  type VisibleState,
  visibleState,
} from "../crash-points/visible-state.ts";
import type { NamedCase } from "./call-cases.ts";
import { CaseWorld, makeFamily, openCaseStore } from "./case-world.ts";
import { FailingFiles, type FaultMode, type HostCall, modesOf } from "./failing-files.ts";

export interface FailAtNSettings {
  seed: number;
  /** Of so many failures one is followed to the end: further use, cleaning, a clean stop. */
  goOnEvery: number;
}

export interface FailAtNCounts {
  /** Host calls that the operation makes. */
  hostCalls: number;
  /** Runs with a failure in them … */
  failures: number;
  /** … after which the operation succeeded all the same, … */
  succeeded: number;
  /** … failed, having done nothing, … */
  refused: number;
  /** … or left a disk that says that it must be opened again. */
  mustReopen: number;
}

export const noFailures: FailAtNCounts = {
  hostCalls: 0,
  failures: 0,
  succeeded: 0,
  refused: 0,
  mustReopen: 0,
};

interface Run {
  machine: Machine;
  files: FailingFiles;
  world: CaseWorld;
}

/** By then five seconds have passed. */
const mendedAtTurn = 500;
const keepsAll = { below: () => 1 };
const losesAll = { below: () => 0 };

/** Fails every host call of an operation, in every way it can fail, one at a time. */
export class FailAtN {
  readonly #case: NamedCase;
  readonly #settings: FailAtNSettings;
  readonly counts = { ...noFailures };
  #base: MemoryDisk | undefined;
  #before: VisibleState[] = [];
  #after: VisibleState = { structure: "", loose: "" };

  constructor(settings: FailAtNSettings, one: NamedCase) {
    this.#settings = settings;
    this.#case = one;
  }

  async run(): Promise<FailAtNCounts> {
    await this.#prepare();
    const calls = await this.#runWithout();
    this.counts.hostCalls = calls.length;
    for (let n = 1; n <= calls.length; n++) {
      for (const mode of modesOf(calls[n - 1] as HostCall)) {
        try {
          await this.#runWith(n, mode);
        } catch (error) {
          const { operation, path } = calls[n - 1] as HostCall;
          const where = `host call ${n} of ${calls.length}, ${operation} ${path}: ${mode}`;
          const text = `${this.#case.title}, ${where}, seed ${this.#settings.seed}`;
          throw new Error(`${text}: ${messageOf(error)}`, { cause: error });
        }
      }
    }
    return this.counts;
  }

  async #prepare(): Promise<void> {
    const machine = startMachine({ seed: this.#settings.seed });
    const world = new CaseWorld(await openCaseStore(machine.host, true));
    await makeFamily(world);
    await this.#case.prepare?.(world);
    await world.store.close();
    this.#base = machine.moment().afterPowerLoss(keepsAll);
  }

  /** As far as the operation itself: a store with writes that are not flushed. */
  async #begin(): Promise<Run> {
    assert.ok(this.#base !== undefined);
    const disk = this.#base.afterCrash({ kind: "process-death" });
    const machine = startMachine({ disk, seed: this.#settings.seed });
    const files = new FailingFiles(machine.host.files);
    const world = new CaseWorld(await openCaseStore({ ...machine.host, files }));
    this.#before = [await visibleState(world.store)];
    for (const [block, number] of [
      [7, 1001],
      [1025, 1002],
    ] as const) {
      await world.write(looseName, block, number);
      this.#before.push(await visibleState(world.store));
    }
    return { machine, files, world };
  }

  async #runWithout(): Promise<HostCall[]> {
    const { files, world } = await this.#begin();
    const calls: HostCall[] = [];
    files.listen((call) => calls.push(call));
    const { refused, run, check } = this.#case;
    if (refused === undefined) await run(world);
    else await assert.rejects(run(world), refused);
    files.disarm();
    this.#after = await visibleState(world.store);
    const before = this.#before.at(-1) as VisibleState;
    if (check === undefined) assert.equal(textOf(this.#after), textOf(before));
    else check(before, this.#after);
    return calls;
  }

  async #runWith(n: number, mode: FaultMode): Promise<void> {
    const run = await this.#begin();
    const { world, files, machine } = run;
    files.arm(n, mode);
    const error = await this.#outcome(run);
    assert.ok(files.failed !== undefined, "the same run makes the same host calls");
    files.disarm();
    this.counts.failures++;
    const live = await this.#liveState(world);
    const possible = this.#judge(error, live);
    const seed = this.#settings.seed + n;
    for (const disk of [
      machine.moment().afterPowerLoss(losesAll),
      machine.moment().afterPowerLoss(keepsAll),
      machine.moment().afterPowerLoss(new SeededRandom(seed)),
      machine.moment().afterProcessDeath(),
    ]) {
      await assertAfterCrash(disk, possible);
    }
    if (this.counts.failures % this.#settings.goOnEvery !== 0) return;
    if (live === undefined) await this.#reopened(run, possible);
    else await this.#goOn(run, live, error);
  }

  #outcome({ world, machine, files }: Run): Promise<KelpieError | undefined> {
    const { run } = this.#case;
    return outcomeOf(run(world), { machine, files });
  }

  /** Undefined if a disk says that it cannot be used until it is opened again. */
  async #liveState(world: CaseWorld): Promise<VisibleState | undefined> {
    try {
      return await visibleState(world.store);
    } catch (error) {
      if (mustReopen(error)) return undefined;
      throw error;
    }
  }

  /** Holds the state that can be seen against what the operation said, and gives what a crash may leave. */
  #judge(error: KelpieError | undefined, live: VisibleState | undefined): VisibleState[] {
    const before = this.#before.at(-1) as VisibleState;
    const after = this.#after;
    const isAfter = live === undefined || textOf(live) === textOf(after);
    const changes = textOf(before) !== textOf(after);
    const loose = this.#before.map((state) => state.loose);
    const afterwards = this.#case.covers
      ? [after]
      : loose.map((content) => ({ ...after, loose: content }));
    if (error === undefined) {
      this.counts.succeeded++;
      assert.ok(isAfter, `it succeeded, but what can be seen is\n${live && textOf(live)}`);
      return changes ? afterwards : this.#before;
    }
    if (live === undefined) this.counts.mustReopen++;
    else {
      this.counts.refused++;
      assert.equal(textOf(live), textOf(before), "it failed, and half of it is done");
    }
    return [...this.#before, ...afterwards];
  }

  /** The store goes on working: what failed is done again, and all of it is there in the end. */
  async #goOn(run: Run, live: VisibleState, error: KelpieError | undefined): Promise<void> {
    const { world, machine } = run;
    const isDone = error === undefined || textOf(live) === textOf(this.#after);
    if (!isDone) {
      const again = await this.#outcome(run);
      if (again !== undefined) {
        if (!mustReopen(again)) throw again;
        this.counts.mustReopen++;
        return this.#reopened(run, this.#before);
      }
    }
    let expected = await visibleState(world.store);
    assert.equal(textOf(expected), textOf(this.#after), "done again it has another result");
    if (expected.loose !== "") {
      await world.write(looseName, 2, 90_001);
      await world.flush(looseName);
      expected = await visibleState(world.store);
      assert.match(expected.loose, /\b2=90001\b/);
    }
    await assertUndamaged(world.store);
    await world.store.close();
    const reopened = await openCaseStore(startOf(machine.moment().afterPowerLoss(losesAll)));
    assert.equal(textOf(await visibleState(reopened)), textOf(expected));
    await assertNothingLeaks(reopened);
    assert.equal(textOf(await visibleState(reopened)), textOf(expected));
  }

  /** It said that it must be opened again: then it is, after a stop that may not be clean. */
  async #reopened({ world, machine }: Run, possible: readonly VisibleState[]): Promise<void> {
    await world.store.close();
    await assertAfterCrash(machine.moment().afterProcessDeath(), possible);
    await assertAfterCrash(machine.moment().afterPowerLoss(losesAll), possible);
  }
}

/** What an operation failed with. Time goes on as long as it waits for that. */
export async function outcomeOf(
  action: Promise<unknown>,
  { machine, files }: { machine: Machine; files: FailingFiles },
): Promise<KelpieError | undefined> {
  let outcome: { error: unknown } | undefined;
  action.then(
    () => {
      outcome = { error: undefined };
    },
    (error: unknown) => {
      outcome = { error };
    },
  );
  for (let turn = 0; outcome === undefined; turn++) {
    assert.ok(turn < 2000, "the operation does not end");
    await setImmediate();
    if (turn % 10 === 9) await machine.host.time.advance(100);
    // Nothing that is tried again and again has an end before the disk is mended.
    if (turn === mendedAtTurn) files.disarm();
  }
  const { error } = outcome as { error: unknown };
  if (error === undefined) return undefined;
  if (isKelpieError(error)) return error;
  throw new Error(`not an error for people: ${messageOf(error)}`, { cause: error });
}

function mustReopen(error: unknown): boolean {
  if (!(error instanceof KelpieError)) return false;
  return /reopened|opened again/.test(`${error.message} ${error.remedy ?? ""}`);
}

export function startOf(disk: MemoryDisk) {
  return startMachine({ disk }).host;
}

export async function assertAfterCrash(
  disk: MemoryDisk,
  possible: readonly VisibleState[],
  mayBeNew = false,
): Promise<void> {
  const store = await openCaseStore(startOf(disk), mayBeNew);
  const found = textOf(await visibleState(store));
  if (!possible.some((state) => textOf(state) === found)) {
    const states = possible.map(textOf).join("\nor\n");
    assert.fail(`after a crash there is\n${found}\nand not\n${states}`);
  }
  await assertUndamaged(store);
}
