import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import { formatSize } from "../base/sizes.ts";
import type { Clock } from "../host/clock.ts";
import { checkTag } from "../vdi/names.ts";
import type { Vdis } from "../vdi/vdis.ts";
import type { VmPending, VmRecord, VmSnapshot } from "../vdi/vm-record.ts";
import { StepError, step, type VmMachine } from "./vm-machine.ts";
import type { MemoryMeter } from "./vm-progress.ts";

export interface VmOperationComponents {
  vdis: Vdis;
  clock: Clock;
  meter: MemoryMeter;
}

/**
 * Saves memory, devices and all disks, of one moment. Memory goes into the memory VDI first; the disks'
 * snapshots and what ties them to it are one catalog record: with that the snapshot exists, without it
 * nothing does.
 */
export async function saveVm(
  machine: VmMachine,
  request: { tag: string | undefined; replace: boolean },
  components: VmOperationComponents,
): Promise<{ id: number; pausedMs: number }> {
  const { vdis, clock, meter } = components;
  const { monitor, record } = machine;
  const tag = request.tag ?? freeTag(defaultTag(clock.nowMs()), vdis, record);
  const replaced = findReplaced(record, tag, request.replace);
  for (const name of record.disks) mustBeFree(vdis, name, { tag, replaced });
  const image = newImage(vdis);
  const { isRunning: wasRunning } = await monitor.mustStandStill();
  meter.expect(await mustHaveRoom(machine, vdis));
  await machine.change({ pending: { kind: "save", image, wasRunning } });
  const pausedAtMs = clock.monotonicMs();
  try {
    await step("stopping the guest", () => monitor.pause());
    await step("saving the memory", () => monitor.saveState(image, "memory"));
    // Durability: the state is safe before any record speaks of it.
    await step("making the saved memory durable", () => monitor.writeOut());
    const saved = await step("looking at the saved memory", async () => {
      const found = (await monitor.states()).find(({ name }) => name === image);
      if (found === undefined) throw new KelpieError("io", "QEMU does not have it");
      return found;
    });
    await step("the snapshots of the disks", () =>
      vdis.snapshot(record.disks, tag, {
        replacing: replaced?.disks.map(({ point }) => point) ?? [],
        notes: (points) => {
          const snapshot: VmSnapshot = {
            id: record.nextId,
            tag,
            image,
            takenMs: clock.nowMs(),
            clockNs: saved.clockNs,
            memoryBytes: saved.sizeBytes,
            parent:
              replaced !== undefined && record.current === replaced.id
                ? replaced.parent
                : record.current,
            disks: points.map((point, at) => ({ name: record.disks[at] ?? "", point })),
          };
          const others = replaced === undefined ? record : withoutSnapshot(record, replaced);
          return [
            {
              type: "vm",
              record: {
                ...others,
                snapshots: [...others.snapshots, snapshot],
                nextId: record.nextId + 1,
                current: snapshot.id,
                pending: resumed(wasRunning),
              },
            },
          ];
        },
      }),
    );
  } catch (error) {
    throw await undone(machine, { operation: "savevm", error });
  }
  await goOn(machine, wasRunning);
  const pausedMs = clock.monotonicMs() - pausedAtMs;
  await over(machine);
  return { id: record.nextId, pausedMs };
}

/**
 * Puts memory, devices and all disks back to a snapshot. What the memory is now is saved first, for the
 * case that loading fails. The disks go back last, in one catalog record: with that it has happened.
 */
export async function loadVm(
  machine: VmMachine,
  snapshot: VmSnapshot,
  components: VmOperationComponents,
): Promise<{ pausedMs: number }> {
  const { vdis, clock, meter } = components;
  const { monitor, record } = machine;
  const targets = targetsOf(record, snapshot, vdis);
  if (!(await monitor.states()).some(({ name }) => name === snapshot.image)) {
    throw new KelpieError("corrupt", `the memory of snapshot "${snapshot.tag}" is gone`);
  }
  const { isRunning: wasRunning } = await monitor.mustStandStill();
  await mustHaveRoom(machine, vdis);
  const before = newImage(vdis);
  const begun: VmPending = { kind: "load", image: before, wasRunning };
  let pausedAtMs = clock.monotonicMs();
  try {
    await step("opening the saved memory", () => machine.openCopy(begun));
    const spare = await step("making room for what the memory is now", () => machine.openSpare());
    meter.expect(snapshot.memoryBytes);
    pausedAtMs = clock.monotonicMs();
    await step("stopping the guest", () => monitor.pause());
    // Nothing of it needs to be durable: what loses it, power, takes the QEMU that it is of.
    await step("saving what the memory is now", () => monitor.saveState(before, spare));
    await step("loading the memory", () => monitor.loadState(snapshot.image, "copy"));
    await step("the rollback of the disks", () => {
      const pending = { ...machine.record.pending, ...resumed(wasRunning) };
      const changed = { ...machine.record, current: snapshot.id, pending };
      return vdis.rollbackEach(targets, { live: true, notes: [{ type: "vm", record: changed }] });
    });
  } catch (error) {
    throw await undone(machine, { operation: "loadvm", error });
  }
  await goOn(machine, wasRunning);
  const pausedMs = clock.monotonicMs() - pausedAtMs;
  await over(machine);
  return { pausedMs };
}

function resumed(wasRunning: boolean): VmPending {
  return { kind: "resume", image: null, wasRunning };
}

/** The record less a snapshot; what stood on it stands on what it stood on. */
export function withoutSnapshot(record: VmRecord, gone: VmSnapshot): VmRecord {
  const above = (id: number | null): number | null => (id === gone.id ? gone.parent : id);
  return {
    ...record,
    current: above(record.current),
    snapshots: record.snapshots
      .filter(({ id }) => id !== gone.id)
      .map((snapshot) => ({ ...snapshot, parent: above(snapshot.parent) })),
  };
}

/** Brings the VM to where it was, as far as it goes; returns what to say of it. */
async function undone(
  machine: VmMachine,
  failure: { operation: string; error: unknown },
): Promise<unknown> {
  const { error, operation } = failure;
  if (!(error instanceof StepError) || !isKelpieError(error.cause)) return error;
  const { cause } = error;
  const what = `${operation} of VM "${machine.name}": ${error.step} failed: ${cause.message}`;
  const remedy = cause.remedy === undefined ? {} : { remedy: cause.remedy };
  const { pending } = machine.record;
  try {
    if (pending !== null) {
      await machine.monitor.settleJobs();
      await machine.finish(pending);
      await machine.forgetStates();
    }
    return new KelpieError(cause.code, `${what}; the VM is as it was`, { cause, ...remedy });
  } catch (second) {
    if (!isKelpieError(second)) return second;
    const left = `; its disks are as they were, and its QEMU: ${messageOf(second)}`;
    return new KelpieError(cause.code, what + left, {
      cause,
      remedy: `The next command on VM "${machine.name}" brings it in order.`,
    });
  }
}

/** The guest runs again; what was done is done, whatever comes of this. */
async function goOn(machine: VmMachine, wasRunning: boolean): Promise<void> {
  if (!wasRunning) return;
  try {
    await machine.monitor.resume();
  } catch (error) {
    if (!isKelpieError(error)) throw error;
    throw new KelpieError(
      error.code,
      `it is done, but the guest of VM "${machine.name}" does not run on: ${error.message}`,
      { cause: error, remedy: `kelpie vm monitor ${machine.name}, and there "cont"` },
    );
  }
}

/** It is done all the same; the next operation begins with this. */
async function over(machine: VmMachine): Promise<void> {
  try {
    await machine.over();
    await machine.forgetStates();
  } catch (error) {
    if (!isKelpieError(error)) throw error;
  }
}

/** As QEMU calls it: "vm-20260301140509". */
function defaultTag(nowMs: number): string {
  const date = new Date(nowMs);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `vm-${day}${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

/** Two may be taken in one second. */
function freeTag(wanted: string, vdis: Vdis, record: VmRecord): string {
  const isTaken = (tag: string): boolean =>
    record.snapshots.some((snapshot) => snapshot.tag === tag) ||
    record.disks.some((name) => vdis.registry.hasSnapshot(name, tag));
  let tag = wanted;
  for (let again = 2; isTaken(tag); again++) tag = `${wanted}-${again}`;
  return tag;
}

/** Not that of any other state in the store's memory VDIs, clones of each other as they may be. */
function newImage(vdis: Vdis): string {
  return `kelpie-${vdis.store.allocateId()}`;
}

/**
 * Before anything stands still for it. A state that ran out of space half-way would keep what it took, for
 * QEMU cannot give it back without writing, and the guest would find its disks full. Pages of zeros take
 * nothing, but how many there are only QEMU knows. Says how much it may be.
 */
async function mustHaveRoom({ monitor, name }: VmMachine, vdis: Vdis): Promise<number> {
  const { space } = vdis.store;
  await space.check();
  const neededBytes = await monitor.memoryBytes();
  const freeBytes = Math.max(0, space.freeBytes - space.reserveBytes);
  if (freeBytes >= neededBytes) return neededBytes;
  const sizes = `${formatSize(neededBytes)}, and the store has ${formatSize(freeBytes)} to give`;
  throw new KelpieError("no-space", `the memory of VM "${name}" may take up to ${sizes}`, {
    remedy: `Free space, or delete snapshots: kelpie vm snapshots ${name}.`,
  });
}

function findReplaced(record: VmRecord, tag: string, replace: boolean): VmSnapshot | undefined {
  checkTag(tag);
  const found = record.snapshots.find((snapshot) => snapshot.tag === tag);
  if (found === undefined || replace) return found;
  throw new KelpieError("exists", `VM "${record.name}" has a snapshot "${tag}" already`, {
    remedy: "Use --replace to put this one in its place.",
  });
}

/** Before anything stands still for it. */
function mustBeFree(
  vdis: Vdis,
  name: string,
  { tag, replaced }: { tag: string; replaced: VmSnapshot | undefined },
): void {
  const own = new Set(replaced?.disks.map(({ point }) => point));
  const taken = vdis.registry.snapshotsOf(name).find((entry) => entry.tag === tag);
  if (taken === undefined || own.has(taken.point)) return;
  throw new KelpieError("exists", `disk "${name}" has a snapshot "${tag}" of its own already`, {
    remedy: "Choose another tag.",
  });
}

function targetsOf(
  record: VmRecord,
  snapshot: VmSnapshot,
  vdis: Vdis,
): { name: string; snapshot: string }[] {
  const missing = record.disks.find((name) => !snapshot.disks.some((disk) => disk.name === name));
  if (missing !== undefined) {
    throw new KelpieError(
      "invalid",
      `snapshot "${snapshot.tag}" is from before VM "${record.name}" had disk "${missing}"`,
    );
  }
  return snapshot.disks.map(({ name, point }) => {
    if (!record.disks.includes(name)) {
      throw new KelpieError(
        "invalid",
        `snapshot "${snapshot.tag}" has disk "${name}", which VM "${record.name}" does not have`,
      );
    }
    const entry = vdis.registry.snapshotAt(point);
    if (entry === undefined) throw new KelpieError("corrupt", `disk "${name}" lost its snapshot`);
    if (vdis.store.point(point).sizeBytes !== vdis.point(name).sizeBytes) {
      throw new KelpieError("busy", `disk "${name}" has another size than in "${snapshot.tag}"`, {
        remedy: "A guest that runs does not see its disk change its size.",
      });
    }
    return { name, snapshot: `#${entry.snapId}` };
  });
}
