import { KelpieError } from "../../src/base/errors.ts";
import type { ExportClient, Exports, OpenExport } from "../../src/block/exports.ts";
import { MemoryDevice } from "../../src/block/memory-device.ts";
import type { LocalStore } from "../../src/cli/context.ts";
import {
  type CallArguments,
  type CallContext,
  type CallName,
  type CallOutput,
  type Control,
  calls,
  type DiscardedEntry,
  type QosEntry,
  type RangeEntry,
  type VdiEntry,
} from "../../src/control/calls.ts";

interface Point {
  id: number;
  name: string;
  parent: Point | undefined;
  snapId: number;
  tag: string;
  frozen: boolean;
  createdMs: number;
  device: MemoryDevice;
}

interface Discarded {
  point: Point;
  why: DiscardedEntry["why"];
  discardedMs: number;
}

/** Virtual machines are not faked, nor what only a server knows, nor are Sheepdog's locks. */
type FakedCall = Exclude<
  CallName,
  `vm.${string}` | `server.${string}` | `job.${string}` | "vdi.locks" | "vdi.breakLock"
>;

type Handlers = {
  [N in FakedCall]: (
    input: CallArguments<N>,
    context: CallContext,
  ) => CallOutput<N> | Promise<CallOutput<N>>;
};

const minuteMs = 60_000;
const chunkBytes = 64 * 1024;

/**
 * A store in memory with the rules of the real one, as far as the command line shows them; its
 * disks are memory devices, copied whole for every snapshot. Each change is a minute later.
 */
export class FakeStore implements LocalStore {
  readonly control: Control;
  readonly exports: Exports;
  /** For tests that bring their own. */
  sheepdog?: NonNullable<LocalStore["sheepdog"]>;
  closed = false;
  findings: CallOutput<"store.check">["findings"] = [];
  #nowMs = Date.UTC(2026, 2, 1, 12, 0);
  #nextPoint = 1;
  #points: Point[] = [];
  #discarded: Discarded[] = [];
  readonly #clients: { name: string; client: ExportClient }[] = [];

  constructor() {
    this.control = {
      call: async <N extends CallName>(name: N, input: unknown, context: CallContext = {}) => {
        const checked = calls[name].input.parse(input) as CallArguments<N>;
        if (name.startsWith("vm.")) throw new KelpieError("not-found", "there is no VM");
        const handler = this.#handlers[name as FakedCall] as unknown as
          | ((
              input: CallArguments<N>,
              context: CallContext,
            ) => CallOutput<N> | Promise<CallOutput<N>>)
          | undefined;
        if (handler === undefined) throw new KelpieError("unsupported", `${name} is not faked`);
        return await handler(checked, context);
      },
    };
    this.exports = {
      list: async () => this.#points.map((point) => ({ name: point.name, description: "" })),
      open: async (name, client) => this.#open(name, client),
    };
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  /** The device of "NAME" or "NAME@TAG", to look at what a command has written. */
  device(exportName: string): MemoryDevice {
    return this.#find(exportName).device;
  }

  readonly #qos = new Map<string, QosEntry>();

  readonly #handlers: Handlers = {
    "vdi.create": ({ name, sizeBytes, qos }) => {
      this.#assertFree(name);
      if (qos !== undefined) this.#qos.set(name, qos);
      return this.#entry(this.#begin(name, undefined, new MemoryDevice(sizeBytes)));
    },
    "vdi.setQos": ({ name, qos }) => {
      this.#working(name);
      if (qos === null) this.#qos.delete(name);
      else this.#qos.set(name, qos);
      return { qos };
    },
    "quota.set": () => ({}),
    "quota.list": () => [],
    "vdi.list": ({ name }) => {
      if (name !== undefined) this.#assertKnown(name);
      const shown = this.#points.filter((point) => name === undefined || point.name === name);
      const order = (a: Point, b: Point) =>
        a.name < b.name ? -1 : a.name > b.name ? 1 : a.snapId - b.snapId;
      return shown.sort(order).map((point) => this.#entry(point));
    },
    "vdi.discarded": ({ name }) => this.#discardedEntries(name),
    "vdi.info": ({ name, snapshot }) => ({
      entry: this.#entry(
        snapshot === undefined ? this.#working(name) : this.#snapshot(name, snapshot),
      ),
      clients: this.#clients
        .filter((open) => open.name === name)
        .map(({ client }) => ({ ...client, export: name, readOnly: false })),
      snapshots: this.#points.filter((point) => point.name === name && point.frozen).length,
      discarded: this.#discardedEntries(name),
      ...(this.#qos.has(name) ? { qos: this.#qos.get(name) } : {}),
    }),
    "vdi.snapshot": ({ names, tag }) => names.map((name) => this.#entry(this.#freeze(name, tag))),
    "vdi.clone": ({ source, snapshot, name }) => {
      const from = this.#snapshot(source, snapshot);
      this.#assertFree(name);
      return this.#entry(this.#begin(name, from, copyOf(from.device)));
    },
    "vdi.rollback": ({ names, snapshot, live }) => {
      const targets = names.map((name) => this.#snapshot(name, snapshot));
      for (const name of names) if (!live) this.#assertIdle(name);
      return targets.map((target) => {
        this.#discard(this.#working(target.name), "rollback");
        return this.#entry(this.#begin(target.name, target, copyOf(target.device)));
      });
    },
    "vdi.delete": ({ name, snapshot }) => {
      if (snapshot === undefined) {
        this.#discard(this.#working(name), "delete");
        return { deleted: 1 };
      }
      const gone = this.#snapshot(name, snapshot);
      for (const point of this.#points) if (point.parent === gone) point.parent = gone.parent;
      this.#points = this.#points.filter((point) => point !== gone);
      return { deleted: 1 };
    },
    "vdi.undelete": ({ name, point, as }) => {
      const found = this.#discarded.findLast(
        (entry) => entry.point.name === name && (point === undefined || entry.point.id === point),
      );
      if (found === undefined) throw new KelpieError("not-found", `${name}: nothing is set aside`);
      this.#discarded = this.#discarded.filter((entry) => entry !== found);
      const present = this.#points.find((other) => other.name === name && !other.frozen);
      if (as === undefined && present !== undefined) this.#discard(present, "undelete");
      found.point.name = as ?? name;
      this.#points.push(found.point);
      return this.#entry(found.point);
    },
    "vdi.purge": ({ name }) => {
      const before = this.#discarded.length;
      this.#discarded = this.#discarded.filter(
        ({ point }) => name !== undefined && point.name !== name,
      );
      return { purged: before - this.#discarded.length };
    },
    "vdi.setFlush": () => {
      throw new KelpieError("unsupported", "it is not in an object store");
    },
    "vdi.resize": ({ name, sizeBytes, shrink }) => {
      const point = this.#working(name);
      if (sizeBytes < point.device.sizeBytes && !shrink) {
        throw new KelpieError("invalid", `${name}: that is smaller than it is`, {
          remedy: "say --shrink if you mean it",
        });
      }
      point.device = copyOf(point.device, sizeBytes);
      return this.#entry(point);
    },
    "vdi.vmstate": () => {
      throw new KelpieError("unsupported", "disks in memory keep no state of machines");
    },
    "vdi.flatten": ({ name }, { progress }) => {
      const point = this.#working(name);
      point.parent = undefined;
      progress?.({ doneBytes: point.device.sizeBytes, totalBytes: point.device.sizeBytes });
      return this.#entry(point);
    },
    "vdi.diff": async ({ name, from, to, offset }) => {
      const base = this.#snapshot(name, from);
      const point = to === undefined ? this.#working(name) : this.#snapshot(name, to);
      return pageOf(changedRanges(base.device, point.device), offset);
    },
    "vdi.map": async ({ name, snapshot, offset }) => {
      const point = snapshot === undefined ? this.#working(name) : this.#snapshot(name, snapshot);
      return pageOf(await mapOf(point.device), offset);
    },
    "vdi.check": ({ name, snapshot }, context) => {
      const point = snapshot === undefined ? this.#working(name) : this.#snapshot(name, snapshot);
      return this.#check(point.device.allocatedBytes, context);
    },
    "store.info": () => ({
      url: "fake",
      id: "0123456789abcdef",
      format: 1,
      vdis: this.#points.filter((point) => !point.frozen).length,
      points: this.#points.length,
      segments: 1,
      liveBytes: this.#liveBytes(),
      usedBytes: 2 * this.#liveBytes(),
      freeBytes: 10 * 2 ** 30,
      reserveBytes: 256 * 2 ** 20,
      catalogRecords: this.#nextPoint - 1,
      state: "open" as const,
    }),
    "store.check": (_input, context) => this.#check(this.#liveBytes(), context),
    "store.clean": () => {
      const liveBytes = this.#liveBytes();
      return { freedBytes: liveBytes, usedBytes: liveBytes, liveBytes };
    },
    "store.inspect": ({ key }) => ({ lines: [`${key}: one`, `${key}: two`] }),
  };

  #check(checkedBytes: number, { progress, signal }: CallContext): CallOutput<"vdi.check"> {
    signal?.throwIfAborted();
    progress?.({ doneBytes: checkedBytes, totalBytes: checkedBytes });
    return { checkedBytes, findings: this.findings };
  }

  #begin(name: string, parent: Point | undefined, device: MemoryDevice): Point {
    const ids = this.#points.filter((point) => point.name === name).map((point) => point.snapId);
    const point: Point = {
      id: this.#nextPoint++,
      name,
      parent,
      snapId: Math.max(0, ...ids) + 1,
      tag: "",
      frozen: false,
      createdMs: this.#tick(),
      device,
    };
    this.#points.push(point);
    return point;
  }

  #freeze(name: string, tag = ""): Point {
    const point = this.#working(name);
    const taken = this.#points.some((other) => other.name === name && other.tag === tag);
    if (tag !== "" && taken) throw new KelpieError("exists", `${name}: tag ${tag} is taken`);
    Object.assign(point, { frozen: true, tag, createdMs: this.#nowMs });
    this.#begin(name, point, copyOf(point.device));
    return point;
  }

  #discard(point: Point, why: Discarded["why"]): void {
    this.#points = this.#points.filter((other) => other !== point);
    this.#discarded.push({ point, why, discardedMs: this.#tick() });
  }

  #discardedEntries(name: string | undefined): DiscardedEntry[] {
    return this.#discarded
      .filter(({ point }) => name === undefined || point.name === name)
      .map(({ point, why, discardedMs }) => ({
        name: point.name,
        point: point.id,
        why,
        discardedMs,
        purgeMs: discardedMs + 60 * minuteMs,
        sizeBytes: point.device.sizeBytes,
        exclusiveBytes: this.#entry(point).exclusiveBytes,
      }));
  }

  #entry(point: Point): VdiEntry {
    const { id, name, snapId, tag, device, createdMs } = point;
    const mappedBytes = device.allocatedBytes;
    const changed = changedRanges(point.parent?.device ?? new MemoryDevice(512), device);
    const own = changed.reduce((sum, range) => sum + range.length, 0);
    const exclusiveBytes = Math.min(own, mappedBytes);
    return {
      name,
      kind: point.frozen ? "snapshot" : "working",
      snapId,
      tag,
      point: id,
      parent: point.parent?.id ?? null,
      family: rootOf(point).id,
      sizeBytes: device.sizeBytes,
      mappedBytes,
      exclusiveBytes,
      sharedBytes: mappedBytes - exclusiveBytes,
      createdMs,
      clone: !point.frozen && point.parent !== undefined && point.parent.name !== name,
      clients: this.#clients.filter((open) => open.name === name).length,
    };
  }

  #open(name: string, client: ExportClient): OpenExport {
    const open = { name, client };
    const { device } = this.#find(name);
    this.#clients.push(open);
    return {
      name,
      description: "",
      device,
      close: async () => {
        this.#clients.splice(this.#clients.indexOf(open), 1);
      },
    };
  }

  #find(exportName: string): Point {
    const [name = "", snapshot] = exportName.split("@");
    return snapshot === undefined ? this.#working(name) : this.#snapshot(name, snapshot);
  }

  #working(name: string): Point {
    const found = this.#points.find((point) => point.name === name && !point.frozen);
    if (found === undefined) throw new KelpieError("not-found", `there is no disk ${name}`);
    return found;
  }

  #snapshot(name: string, selector: string): Point {
    this.#assertKnown(name);
    const id = /^#?(\d+)$/.exec(selector)?.[1];
    const found = this.#points.find((point) => {
      const matches = id === undefined ? point.tag === selector : point.snapId === Number(id);
      return point.name === name && point.frozen && matches;
    });
    if (found !== undefined) return found;
    throw new KelpieError("not-found", `${name}: there is no snapshot ${selector}`, {
      remedy: `kelpie vdi list ${name} shows what there is`,
    });
  }

  #assertKnown(name: string): void {
    if (this.#points.some((point) => point.name === name)) return;
    throw new KelpieError("not-found", `there is no disk ${name}`);
  }

  #assertFree(name: string): void {
    if (!this.#points.some((point) => point.name === name && !point.frozen)) return;
    throw new KelpieError("exists", `there is a disk ${name} already`);
  }

  #assertIdle(name: string): void {
    if (!this.#clients.some((open) => open.name === name)) return;
    throw new KelpieError("busy", `${name}: a client has it open`, { remedy: "use --live" });
  }

  #liveBytes(): number {
    return this.#points.reduce((sum, point) => sum + point.device.allocatedBytes, 0);
  }

  #tick(): number {
    this.#nowMs += minuteMs;
    return this.#nowMs;
  }
}

function rootOf(point: Point): Point {
  return point.parent === undefined ? point : rootOf(point.parent);
}

function copyOf(device: MemoryDevice, sizeBytes = device.sizeBytes): MemoryDevice {
  const copy = new MemoryDevice(sizeBytes);
  for (const { offset, length } of allocated(device)) {
    const bytes = new Uint8Array(Math.min(length, sizeBytes - offset));
    if (bytes.length === 0 || offset >= sizeBytes) continue;
    device.read(bytes, offset);
    copy.write([bytes], offset);
  }
  return copy;
}

/** Chunks that either device has and that differ. */
function changedRanges(before: MemoryDevice, after: MemoryDevice): RangeEntry[] {
  const candidates = new Set(
    [...allocated(before), ...allocated(after)].map(({ offset }) => offset),
  );
  const out: RangeEntry[] = [];
  for (const offset of [...candidates].sort((a, b) => a - b)) {
    const length = Math.min(chunkBytes, after.sizeBytes - offset);
    if (length <= 0 || chunkAt(before, offset).equals(chunkAt(after, offset))) continue;
    out.push({ offset, length, kind: "changed" });
  }
  return out;
}

function chunkAt(device: MemoryDevice, offset: number): Buffer {
  const bytes = Buffer.alloc(chunkBytes);
  const length = Math.min(chunkBytes, device.sizeBytes - offset);
  if (length > 0) device.read(bytes.subarray(0, length), offset);
  return bytes;
}

/** The device's chunks, found by reading: it has no synchronous way to list them. */
function* allocated(device: MemoryDevice): Generator<{ offset: number; length: number }> {
  if (device.allocatedBytes === 0) return;
  const end = Math.min(device.sizeBytes, scannedBytesMax);
  for (let offset = 0; offset < end; offset += chunkBytes) {
    const length = Math.min(chunkBytes, device.sizeBytes - offset);
    if (!chunkAt(device, offset).equals(zeroChunk)) yield { offset, length };
  }
}

const zeroChunk = Buffer.alloc(chunkBytes);

/** Tests keep their data within this. */
const scannedBytesMax = 16 * 2 ** 20;

async function mapOf(device: MemoryDevice): Promise<RangeEntry[]> {
  const query = { offset: 0, length: device.sizeBytes, extentsMax: 1_000_000 };
  const extents = await device.extents({ kind: "allocation", ...query });
  let offset = 0;
  return extents.map(({ lengthBytes, value }) => {
    offset += lengthBytes;
    const range = { offset: offset - lengthBytes, length: lengthBytes };
    return value === 0
      ? { ...range, kind: "data" as const, depth: 1 }
      : { ...range, kind: "hole" as const, depth: 0 };
  });
}

/** Two ranges a page, so that paging is always used. */
function pageOf(ranges: RangeEntry[], offset: number): CallOutput<"vdi.map"> {
  const rest = ranges.filter((range) => range.offset >= offset);
  return { ranges: rest.slice(0, 2), next: rest[2]?.offset ?? null };
}
