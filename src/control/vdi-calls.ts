import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import { blockBytes } from "../block/block-device.ts";
import type { Point } from "../store/point.ts";
import { familyOf } from "../vdi/history.ts";
import { limitDisk } from "../vdi/limit-disk.ts";
import { setFlushMode } from "../vdi/sending.ts";
import { attachmentKey } from "../vdi/vdis.ts";
import type { CallName, Finding, RangeEntry } from "./calls.ts";
import type { ControlParts, Handlers } from "./control.ts";
import { lockCalls } from "./lock-calls.ts";
import { describeVmState, vmStateCalls } from "./vm-state-calls.ts";

type VdiCall = Extract<CallName, `vdi.${string}`>;

/** Ranges in one answer: an answer stays well under a megabyte. */
const pageRangesMax = 4096;
/** Read at once by a check. */
const checkBlocks = 256;

export function vdiCalls(parts: ControlParts): Handlers<VdiCall> {
  return {
    ...queries(parts),
    ...changes(parts),
    ...lockCalls(parts),
    ...vmStateCalls(parts),
    ...work(parts),
  };
}

function queries({
  vdis,
  entries,
}: ControlParts): Handlers<"vdi.list" | "vdi.discarded" | "vdi.info" | "vdi.diff" | "vdi.map"> {
  return {
    "vdi.list": async ({ name }) => entries.list(name),
    "vdi.discarded": async ({ name }) => entries.discarded(name),
    "vdi.info": async ({ name, snapshot }) => {
      const entry =
        snapshot === undefined ? entries.working(name) : entries.snapshot(name, snapshot);
      const key = snapshot === undefined ? name : attachmentKey(name, entry.snapId);
      return {
        entry,
        clients: vdis.attachments.of(key).map((client) => ({ ...client })),
        snapshots: vdis.registry.snapshotsOf(name).length,
        discarded: entries.discarded(name),
        ...(snapshot === undefined ? qosView(vdis, name) : {}),
        ...sheepdogView(vdis, entry.point),
      };
    },
    "vdi.diff": async ({ name, from, to, offset }) => {
      const [base, point] = [vdis.point(name, from), vdis.point(name, to)];
      if (familyOf(base) !== familyOf(point)) {
        throw new KelpieError("invalid", `${from} and ${to ?? name} have nothing in common`);
      }
      const extents = (at: Point, range: Range) => vdis.store.changed(base, at, range);
      const page = await rangePage(point, offset, extents);
      const ranges = page.ranges
        .filter(({ value }) => value === 1)
        .map(({ offset: start, length }) => ({ offset: start, length, kind: "changed" as const }));
      return { ranges, next: page.next };
    },
    "vdi.map": async ({ name, snapshot, offset }) => {
      const point = vdis.point(name, snapshot);
      const allocation = (at: Point, range: Range) => vdis.store.allocation(at, range);
      const page = await rangePage(point, offset, allocation);
      const ranges: RangeEntry[] = [];
      for (const { offset: start, length, value } of page.ranges) {
        if (value === 0) ranges.push(...(await depths(vdis.store, point, { start, length })));
        else if (value === 1) ranges.push({ offset: start, length, kind: "hole", depth: 0 });
        // Who made zeros is not kept; they are allocated, so they are no hole.
        else ranges.push({ offset: start, length, kind: "zero", depth: 1 });
      }
      return { ranges, next: page.next };
    },
  };
}

function qosView({ registry }: ControlParts["vdis"], name: string) {
  const qos = registry.qos.get(name);
  return qos === undefined ? {} : { qos };
}

function sheepdogView({ registry, store }: ControlParts["vdis"], point: number) {
  const { vids, extras } = registry.objects;
  const entry = vids.ofPoint(point);
  if (entry === undefined) return {};
  const extra = extras.get(point);
  const blocks = extra === undefined ? 0 : store.point(extra).mappedBlocks;
  const objectBytes = 2 ** entry.blockSizeShift;
  return { sheepdog: { vid: entry.vid, objectBytes, besideBytes: blocks * blockBytes } };
}

function mustBeInObjectStore(vdis: ControlParts["vdis"]): void {
  if (vdis.store.isInObjectStore) return;
  throw new KelpieError(
    "unsupported",
    "what a flush waits for is to be chosen in an object store",
    {
      remedy: "In a directory it is always the disk of this machine.",
    },
  );
}

function changes({
  vdis,
  vms,
  objects,
  entries,
}: ControlParts): Handlers<
  | "vdi.create"
  | "vdi.setQos"
  | "vdi.setFlush"
  | "vdi.snapshot"
  | "vdi.clone"
  | "vdi.rollback"
  | "vdi.delete"
  | "vdi.undelete"
  | "vdi.purge"
  | "vdi.resize"
> {
  return {
    "vdi.create": async ({ name, sizeBytes, qos, flush }) => {
      if (flush !== undefined) mustBeInObjectStore(vdis);
      await vdis.create(name, sizeBytes, { qos, flush });
      return entries.working(name);
    },
    "vdi.setFlush": async ({ name, flush }) => {
      mustBeInObjectStore(vdis);
      await setFlushMode(vdis, name, flush);
      return entries.working(name);
    },
    "vdi.setQos": async ({ name, qos }) => {
      await limitDisk(vdis, name, qos);
      return { qos };
    },
    "vdi.snapshot": async ({ names, tag, history, quiesce, wait = false }) => {
      mustNotBeMemory(vdis, ...names);
      const vmState = history?.vmState;
      for (const name of vmState === undefined ? [] : names) {
        await describeVmState(objects, name, vmState as NonNullable<typeof vmState>);
      }
      const take = async () => {
        const snapIds = names.map((name) => history?.snapId ?? vdis.registry.find(name).snapId);
        await vdis.snapshot(names, tag, history === undefined ? {} : { history });
        return names.map((name, at) => entries.snapshot(name, `#${snapIds[at]}`));
      };
      const taken = quiesce ? await vms.quiesced(names, take) : await take();
      if (!wait) return taken;
      await vdis.store.pending.basesArrived(taken.map(({ point }) => point));
      return taken.map(({ name, snapId }) => entries.snapshot(name, `#${snapId}`));
    },
    "vdi.clone": async ({ source, snapshot, name }) => {
      mustNotBeMemory(vdis, source);
      await vdis.clone(source, snapshot, name);
      return entries.working(name);
    },
    "vdi.rollback": async ({ names, snapshot, live }) => {
      mustNotBeMemory(vdis, ...names);
      // While the disks go on: it may take as long as an upload.
      const bases = names.map((name) => vdis.point(name, snapshot).id);
      await vdis.store.pending.basesArrived(bases);
      await vdis.rollback(names, snapshot, live);
      return names.map((name) => entries.working(name));
    },
    "vdi.delete": async ({ name, snapshot }) => {
      if (snapshot === undefined) await vdis.delete(name);
      else await vdis.deleteSnapshot(name, snapshot);
      return { deleted: 1 };
    },
    "vdi.undelete": async ({ name, point, as, live }) => {
      mustNotBeMemory(vdis, as ?? name);
      await vdis.undelete(name, {
        live,
        ...(point === undefined ? {} : { point }),
        ...(as === undefined ? {} : { as }),
      });
      return entries.working(as ?? name);
    },
    "vdi.purge": async ({ name }) => ({ purged: await vdis.purge(name) }),
    "vdi.resize": async ({ name, sizeBytes, shrink }) => {
      mustNotBeMemory(vdis, name);
      await vdis.resize(name, sizeBytes, shrink);
      return entries.working(name);
    },
  };
}

/** QEMU keeps what it knows of it in memory, and VM snapshots say what is in it: it goes with them only. */
function mustNotBeMemory(vdis: ControlParts["vdis"], ...names: string[]): void {
  const vm = vdis.registry.vms.all().find(({ memory }) => names.includes(memory));
  if (vm === undefined) return;
  throw new KelpieError("busy", `"${vm.memory}" is where VM "${vm.name}" keeps its memory`, {
    remedy: "kelpie vm savevm, loadvm, branch and delete are what changes it.",
  });
}

function work({ vdis, entries }: ControlParts): Handlers<"vdi.flatten" | "vdi.check"> {
  return {
    "vdi.flatten": async ({ name }, context) => {
      await vdis.flatten(name, context);
      return entries.working(name);
    },
    "vdi.check": async ({ name, snapshot }, { progress, signal }) => {
      const point = vdis.point(name, snapshot);
      const totalBytes = point.mappedBlocks * blockBytes;
      const damage: DamageList = { runs: [], moreBlocks: 0 };
      let checkedBytes = 0;
      let offset: number | null = 0;
      const allocation = (at: Point, range: Range) => vdis.store.allocation(at, range);
      while (offset !== null) {
        const page: Page = await rangePage(point, offset, allocation);
        for (const range of page.ranges) {
          if (range.value !== 0) continue;
          const first = range.offset / blockBytes;
          const count = Math.ceil(range.length / blockBytes);
          for (let done = 0; done < count; done += checkBlocks) {
            if (signal?.aborted === true) throw new KelpieError("closed", "stopped on request");
            const blocks = Math.min(checkBlocks, count - done);
            const what = { point, first: first + done, blocks };
            for (const found of await checkRange(vdis.store, what)) addDamage(damage, found);
            checkedBytes += blocks * blockBytes;
            progress?.({ doneBytes: checkedBytes, totalBytes });
          }
        }
        offset = page.next;
      }
      return { checkedBytes, findings: describeDamage(name, damage) };
    },
  };
}

type Store = ControlParts["vdis"]["store"];

interface Range {
  first: number;
  count: number;
  extentsMax: number;
}

interface Page {
  ranges: { offset: number; length: number; value: number }[];
  next: number | null;
}

/** Extents from `offset` (of a block) on, as byte ranges that end with the disk. */
async function rangePage(
  point: Point,
  offset: number,
  extents: (point: Point, range: Range) => Promise<{ blocks: number; value: number }[]>,
): Promise<Page> {
  const end = Math.ceil(point.sizeBytes / blockBytes);
  const first = Math.floor(offset / blockBytes);
  if (first >= end) return { ranges: [], next: null };
  const found = await extents(point, { first, count: end - first, extentsMax: pageRangesMax });
  let at = first * blockBytes;
  const ranges = found.map(({ blocks, value }) => {
    const start = at;
    at = Math.min(at + blocks * blockBytes, point.sizeBytes);
    return { offset: start, length: at - start, value };
  });
  return { ranges, next: at < point.sizeBytes ? at : null };
}

/** A run of data, split by how far up it was written. */
async function depths(
  store: Store,
  point: Point,
  run: { start: number; length: number },
): Promise<RangeEntry[]> {
  const ranges: RangeEntry[] = [];
  const end = run.start + run.length;
  for (let at = run.start; at < end; ) {
    const first = at / blockBytes;
    const count = Math.ceil((end - at) / blockBytes);
    const found = await store.depth(point, { first, count, extentsMax: pageRangesMax });
    for (const { blocks, value } of found) {
      const length = Math.min(blocks * blockBytes, end - at);
      ranges.push({ offset: at, length, kind: "data", depth: value });
      at += length;
    }
  }
  return ranges;
}

/** A run of blocks that cannot be read, all for the same reason. */
interface Damage {
  first: number;
  blocks: number;
  message: string;
}

/** Beyond this many runs the rest is counted only: a finding is for somebody to read. */
const damageMax = 1000;

/** Reads a run; if that fails, each of its blocks, to say which. */
async function checkRange(
  store: Store,
  what: { point: Point; first: number; blocks: number },
): Promise<Damage[]> {
  const { point, first, blocks } = what;
  const target = Buffer.allocUnsafe(blocks * blockBytes);
  try {
    await store.read(point, { target, first });
    return [];
  } catch (error) {
    if (!isKelpieError(error)) throw error;
    if (blocks === 1) return [{ first, blocks, message: messageOf(error) }];
  }
  const damage: Damage[] = [];
  for (let at = 0; at < blocks; at++) {
    damage.push(...(await checkRange(store, { point, first: first + at, blocks: 1 })));
  }
  return damage;
}

interface DamageList {
  runs: Damage[];
  /** Blocks that are not in `runs`, because there are too many. */
  moreBlocks: number;
}

/** A missing segment is one finding, and not one for each of its 65,000 blocks. */
function addDamage(list: DamageList, found: Damage): void {
  const last = list.runs.at(-1);
  const continues = last !== undefined && last.first + last.blocks === found.first;
  if (continues && last.message === found.message) last.blocks += found.blocks;
  else if (list.runs.length < damageMax) list.runs.push(found);
  else list.moreBlocks += found.blocks;
}

function describeDamage(name: string, { runs, moreBlocks }: DamageList): Finding[] {
  const findings = runs.map(({ first, blocks, message }): Finding => {
    const length = blocks === 1 ? "" : `, ${blocks * blockBytes} bytes`;
    return { severity: "damage", object: `${name} at ${first * blockBytes}${length}`, message };
  });
  if (moreBlocks === 0) return findings;
  const message = `${moreBlocks} more blocks cannot be read`;
  return [...findings, { severity: "damage", object: name, message }];
}
