import assert from "node:assert/strict";
import type { MemoryDisk } from "../../sim/memory-disk.ts";
import { type KelpieError, messageOf } from "../../src/base/errors.ts";
import type { LocalStore } from "../../src/control/local-store.ts";
import { startMachine } from "../crash-points/forking-machine.ts";
import {
  assertNothingLeaks,
  assertUndamaged,
  looseName,
  textOf,
  type VisibleState,
  visibleState,
} from "../crash-points/visible-state.ts";
import { CaseWorld, makeFamily, openCaseStore } from "./case-world.ts";
import {
  assertAfterCrash,
  type FailAtNCounts,
  type FailAtNSettings,
  noFailures,
  outcomeOf,
  startOf,
} from "./fail-at-n.ts";
import { FailingFiles, type FaultMode, type HostCall, modesOf } from "./failing-files.ts";

const keepsAll = { below: () => 1 };
const losesAll = { below: () => 0 };

/** What becomes of a store when a host call fails while it is made, opened, recovered or closed. */
export const lifecycles = {
  "the creation of a store": { disk: async () => undefined, what: "open" },
  "the opening of a store": { disk: closedDisk, what: "open" },
  "the recovery of a store": { disk: crashedDisk, what: "open" },
  "a clean stop": { disk: crashedDisk, what: "close" },
} as const satisfies Record<
  string,
  { disk: (seed: number) => Promise<MemoryDisk | undefined>; what: "open" | "close" }
>;

export type Lifecycle = keyof typeof lifecycles;

export async function failLifecycle(
  name: Lifecycle,
  settings: FailAtNSettings,
): Promise<FailAtNCounts> {
  const { disk, what } = lifecycles[name];
  const base = await disk(settings.seed);
  const part = { base, what, expected: await stateOf(base), seed: settings.seed };
  const counts = { ...noFailures };
  const calls = await callsOf(part);
  counts.hostCalls = calls.length;
  for (const [at, call] of calls.entries()) {
    for (const mode of modesOf(call)) {
      try {
        const error = await failOnce(part, at + 1, mode);
        counts.failures++;
        if (error === undefined) counts.succeeded++;
        else counts.refused++;
      } catch (error) {
        const where = `host call ${at + 1}, ${call.operation} ${call.path}: ${mode}`;
        throw new Error(`${name}, ${where}: ${messageOf(error)}`, { cause: error });
      }
    }
  }
  return counts;
}

interface Part {
  /** Undefined if there is no store yet. */
  base: MemoryDisk | undefined;
  what: "open" | "close";
  expected: VisibleState;
  seed: number;
}

function start({ base, seed }: Part) {
  const copy = base?.afterCrash({ kind: "process-death" });
  const machine = startMachine({ seed, ...(copy === undefined ? {} : { disk: copy }) });
  const files = new FailingFiles(machine.host.files);
  const open = () => openCaseStore({ ...machine.host, files }, base === undefined);
  return { machine, files, open };
}

async function callsOf(part: Part): Promise<HostCall[]> {
  const { files, open } = start(part);
  const store = part.what === "open" ? undefined : await writtenStore(open);
  const calls: HostCall[] = [];
  files.listen((call) => calls.push(call));
  await (store === undefined ? open() : store.close());
  return calls;
}

async function failOnce(part: Part, n: number, mode: FaultMode): Promise<KelpieError | undefined> {
  const { machine, files, open } = start(part);
  const closing = part.what === "open" ? undefined : await writtenStore(open);
  const expected = closing === undefined ? part.expected : await visibleState(closing);
  files.arm(n, mode);
  let opened: LocalStore | undefined;
  const opening = async () => {
    opened = await open();
  };
  const action = closing === undefined ? opening() : closing.close();
  const error = await outcomeOf(action, { machine, files });
  assert.ok(files.failed !== undefined, "the same run makes the same host calls");
  files.disarm();
  assert.ok(closing === undefined || error === undefined, `closing fails: ${error?.message}`);
  for (const chooser of [losesAll, keepsAll]) {
    const left = machine.moment().afterPowerLoss(chooser);
    await assertAfterCrash(left, [expected], part.base === undefined);
  }
  // On the same machine, whose lock it must have let go.
  const again = opened ?? (await open());
  assert.equal(textOf(await visibleState(again)), textOf(expected));
  await assertUndamaged(again);
  await assertNothingLeaks(again);
  await again.close();
  return error;
}

async function stateOf(disk: MemoryDisk | undefined): Promise<VisibleState> {
  if (disk === undefined) return { structure: "", loose: "" };
  return visibleState(await openCaseStore(startOf(disk.afterCrash({ kind: "process-death" }))));
}

async function writtenStore(open: () => Promise<LocalStore>): Promise<LocalStore> {
  const store = await open();
  const world = new CaseWorld(store);
  await world.write(looseName, 7, 1001);
  await world.write("c", 7, 1002);
  await world.flush(looseName);
  await world.flush("c");
  return store;
}

async function closedDisk(seed: number): Promise<MemoryDisk> {
  const machine = startMachine({ seed });
  const store = await openCaseStore(machine.host, true);
  await makeFamily(new CaseWorld(store));
  await store.close();
  return machine.moment().afterPowerLoss(keepsAll);
}

/** Nothing more is lost by another crash: what was not flushed is torn, and has to be cut. */
async function crashedDisk(seed: number): Promise<MemoryDisk> {
  const machine = startMachine({ seed });
  const world = new CaseWorld(await openCaseStore(machine.host, true));
  await makeFamily(world);
  await world.store.vdis.store.checkpoint();
  for (let block = 0; block < 10; block++) await world.write(looseName, block, 800 + block);
  await world.flush(looseName);
  await world.write(looseName, 3, 903);
  let asked = 0;
  // Every third sector of what is not synced is missing.
  return machine.moment().afterPowerLoss({ below: () => (asked++ % 3 === 0 ? 0 : 1) });
}
