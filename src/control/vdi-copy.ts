import { isKelpieError, KelpieError } from "../base/errors.ts";
import { type BlockDevice, sectorBytes } from "../block/block-device.ts";
import type { OpenExport } from "../block/exports.ts";
import type { SheepdogClient } from "../sheepdog/client.ts";
import { eachOf } from "../sheepdog/client-objects.ts";
import {
  type PointEntry,
  readPointData,
  readPointEntries,
  readPointVmState,
} from "../sheepdog/client-points.ts";
import type { Control, Progress } from "./calls.ts";
import { copyPieceBytes, writeDifferences } from "./copy-objects.ts";
import { type CopyStep, planCopy } from "./copy-plan.ts";
import type { CopyNotes, CopyState } from "./copy-state.ts";

export interface CopyTarget {
  control: Control;
  /** The caller closes it. */
  openDevice(exportName: string): Promise<OpenExport>;
}

export interface CopyRequest {
  /** All points of the disks that are copied. */
  points: readonly PointEntry[];
  /** What a disk is called in the copy. */
  nameOf: (name: string) => string;
  progress?: (progress: Progress) => void;
  /** Told of what could not be kept as it was. */
  warn?: (message: string) => void;
  signal?: AbortSignal;
}

export interface CopyResult {
  disks: number;
  snapshots: number;
  /** Bytes of objects that were read; the rest was the same as what was there. */
  copiedBytes: number;
}

/** Objects are copied in this many streams. */
const piecesAtOnce = 4;
/** Of a machine's state, in one message: a part of an object of any size. */
const vmStatePieceBytes = 256 * 1024;
const zeros = Buffer.alloc(vmStatePieceBytes);
/** With room for an id behind it. */
const tagBytesMax = 240;
/** How much may have to be copied again when a copy goes on. */
const saveEveryBytes = 256 * 2 ** 20;

/**
 * Copies disks of a Sheepdog cluster with all their snapshots, and of each point only what differs from the
 * one it stands on. Goes on with what an earlier run left, as `notes` say. Nobody may write the originals.
 */
export class VdiCopy {
  readonly #request: CopyRequest;
  readonly #client: SheepdogClient;
  readonly #target: CopyTarget;
  readonly #notes: CopyNotes;
  #state: CopyState = { made: {}, done: [] };
  readonly #progress: Progress = { doneBytes: 0, totalBytes: 0 };
  #copiedBytes = 0;
  /** Tags given, by name of the copy: the original may have one twice. */
  readonly #tags = new Map<string, Set<string>>();

  constructor(
    request: CopyRequest,
    components: { client: SheepdogClient; target: CopyTarget; notes: CopyNotes },
  ) {
    this.#request = request;
    this.#client = components.client;
    this.#target = components.target;
    this.#notes = components.notes;
  }

  async run(): Promise<CopyResult> {
    const { points } = this.#request;
    const hyper = points.find(({ isHyper }) => isHyper);
    if (hyper !== undefined) {
      throw new KelpieError("unsupported", `"${hyper.name}" is a hyper volume`, {
        remedy: "Copy the others one by one, without --all.",
      });
    }
    const steps = planCopy(points);
    await this.#begin();
    for (const step of steps) {
      this.#progress.totalBytes += (await this.#differing(step)).length * step.point.objectBytes;
    }
    for (const step of steps) await this.#step(step);
    for (const name of new Set(points.map((point) => point.name))) await this.#finish(name);
    await this.#notes.remove();
    return {
      disks: Object.keys(this.#state.made).length,
      snapshots: points.filter(({ kind }) => kind === "snapshot").length,
      copiedBytes: this.#copiedBytes,
    };
  }

  /** Goes on with what is known to be ours; anything else of that name is somebody's. */
  async #begin(): Promise<void> {
    const state = await this.#notes.load();
    if (state !== undefined) this.#state = state;
    const { made, making } = this.#state;
    for (const { name } of this.#request.points) {
      const target = this.#request.nameOf(name);
      const there = await this.#pointsOf(target);
      const first = made[target];
      if (there.some(({ point }) => point === first)) continue;
      if (first !== undefined) this.#forget(name, target);
      const [only, ...others] = there;
      if (only === undefined) continue;
      const isOurs = target === making && others.length === 0 && only.exclusiveBytes === 0;
      if (!isOurs) throw new KelpieError("exists", `there is a disk "${target}" already`);
      made[target] = only.point;
    }
  }

  /** What was begun of a disk is gone: it is begun anew. */
  #forget(name: string, target: string): void {
    const points = this.#request.points.filter((point) => point.name === name);
    const isOf = (vid: number) => points.some((point) => point.vid === vid);
    delete this.#state.made[target];
    this.#state.done = this.#state.done.filter(({ vid }) => !isOf(vid));
    if (isOf(this.#state.current?.vid ?? 0)) delete this.#state.current;
  }

  async #step(step: CopyStep): Promise<void> {
    const { point } = step;
    const name = this.#request.nameOf(point.name);
    const earlier = this.#state.done.find(({ vid }) => vid === point.vid);
    // It went on being written after it was copied, until it became a snapshot: all of it is compared.
    const differing = await this.#differing(earlier === undefined ? step : { point });
    const isSnapshot = point.kind === "snapshot";
    const there = await this.#pointsOf(name);
    const taken = there.find((one) => one.kind === "snapshot" && one.snapId === point.snapId);
    const tag = this.#tagFor(point, name);
    const isTaken = taken?.createdMs === point.createdMs;
    if (isSnapshot && taken !== undefined && !isTaken) throw wasTouched(name, taken);
    if ((isSnapshot && isTaken) || earlier?.kind === point.kind) {
      this.#advance(differing.length * point.objectBytes);
      return;
    }
    if (this.#state.current?.vid !== point.vid) await this.#position(step, name);
    await this.#copyObjects(point, name, differing);
    if (isSnapshot) {
      await this.#copyVmState(point, name);
      const sizeBytes = point.vmStateBytes;
      const vmState = { sizeBytes, clockNs: point.vmClockNs };
      const history = {
        snapId: point.snapId,
        takenMs: point.createdMs,
        createdMs: point.beganMs,
        ...(sizeBytes === 0 ? {} : { vmState }),
      };
      const named = tag === "" ? {} : { tag };
      await this.#target.control.call("vdi.snapshot", { names: [name], ...named, history });
    }
    this.#state.done = this.#state.done.filter((one) => one !== earlier);
    this.#state.done.push({ vid: point.vid, kind: point.kind });
    delete this.#state.current;
    await this.#notes.save(this.#state);
  }

  /** Makes the working VDI what the point stands on. */
  async #position({ point, start, basis }: CopyStep, name: string): Promise<void> {
    const { control } = this.#target;
    const sizeBytes = wholeSectors(point.sizeBytes);
    const base = basis === undefined ? "" : `#${basis.snapId}`;
    const source = basis === undefined ? "" : this.#request.nameOf(basis.name);
    const isNew = this.#state.made[name] === undefined;
    if (isNew) {
      this.#state.making = name;
      await this.#notes.save(this.#state);
    }
    if (start === "create" && isNew) await control.call("vdi.create", { name, sizeBytes });
    if (start === "clone" && isNew)
      await control.call("vdi.clone", { source, snapshot: base, name });
    if (start === "rollback") {
      await control.call("vdi.rollback", { names: [name], snapshot: base, live: false });
    }
    if (start === "replace") {
      await control.call("vdi.delete", { name }).catch((error: unknown) => {
        if (!isKelpieError(error, "not-found")) throw error; // an earlier run did it
      });
      await control.call("vdi.clone", { source, snapshot: base, name });
    }
    const there = await this.#pointsOf(name);
    const working = there.find(({ kind }) => kind === "working");
    if (working?.sizeBytes !== sizeBytes) {
      await control.call("vdi.resize", { name, sizeBytes, shrink: true });
    }
    if (isNew && working !== undefined) this.#state.made[name] = working.point;
    delete this.#state.making;
    this.#state.current = { vid: point.vid, objects: 0 };
    await this.#notes.save(this.#state);
  }

  async #copyObjects(point: PointEntry, name: string, differing: readonly number[]): Promise<void> {
    const { objectBytes } = point;
    const done = this.#state.current?.objects ?? 0;
    const left = differing.filter((index) => index >= done);
    this.#advance((differing.length - left.length) * objectBytes);
    const opened = await this.#target.openDevice(name);
    try {
      const entries = await readPointEntries(this.#client, point);
      const perRound = Math.max(1, Math.floor(saveEveryBytes / objectBytes));
      for (let at = 0; at < left.length; at += perRound) {
        const round = left.slice(at, at + perRound);
        const disk = { device: opened.device, point, entries };
        await eachOf(round, piecesAtOnce, (index) => this.#copyObject(disk, index));
        await opened.device.flush();
        this.#state.current = { vid: point.vid, objects: (round.at(-1) ?? 0) + 1 };
        await this.#notes.save(this.#state);
      }
    } finally {
      await opened.close();
    }
  }

  async #copyObject(
    { device, point, entries }: { device: BlockDevice; point: PointEntry; entries: Uint32Array },
    index: number,
  ): Promise<void> {
    const { objectBytes } = point;
    const start = index * objectBytes;
    const end = Math.min(start + objectBytes, device.sizeBytes);
    const owner = entries[index] ?? 0;
    if (owner === 0) await device.zero(start, end - start);
    for (let offset = start; owner !== 0 && offset < end; offset += copyPieceBytes) {
      this.#request.signal?.throwIfAborted();
      const bytes = new Uint8Array(Math.min(copyPieceBytes, end - offset));
      await readPointData(this.#client, { owner, index, at: offset - start }, bytes);
      await writeDifferences(device, bytes, offset);
      this.#copiedBytes += bytes.length;
    }
    this.#advance(objectBytes);
  }

  async #copyVmState(point: PointEntry, name: string): Promise<void> {
    const { vmStateBytes } = point;
    for (let offset = 0; offset < vmStateBytes; offset += vmStatePieceBytes) {
      this.#request.signal?.throwIfAborted();
      const bytes = new Uint8Array(Math.min(vmStatePieceBytes, vmStateBytes - offset));
      await readPointVmState(this.#client, point, { offset, target: bytes });
      // What is not written reads as zeros, if anything is written at all.
      const isHole = offset > 0 && zeros.subarray(0, bytes.length).equals(bytes);
      if (isHole) continue;
      const data = Buffer.from(bytes).toString("base64");
      await this.#target.control.call("vdi.vmstate", { name, offset, data });
      this.#copiedBytes += bytes.length;
    }
  }

  /** Objects whose owner is another one than in what the copy has already. */
  async #differing(step: Pick<CopyStep, "point"> & Partial<CopyStep>): Promise<number[]> {
    const { point, start, basis } = step;
    const entries = await readPointEntries(this.#client, point);
    const isAlike = start === "create" || basis?.objectBytes === point.objectBytes;
    const before =
      basis === undefined || !isAlike
        ? new Uint32Array(0)
        : await readPointEntries(this.#client, basis);
    const differing: number[] = [];
    for (let index = 0; index < entries.length; index++) {
      if (!isAlike || entries[index] !== (before[index] ?? 0)) differing.push(index);
    }
    return differing;
  }

  /** What the original has no working VDI of has none in the copy. */
  async #finish(name: string): Promise<void> {
    const isThere = this.#request.points.some(
      (point) => point.name === name && point.kind === "working",
    );
    if (isThere) return;
    await this.#target.control
      .call("vdi.delete", { name: this.#request.nameOf(name) })
      .catch((error: unknown) => {
        if (!isKelpieError(error, "not-found")) throw error; // an earlier run did it
      });
  }

  /** Kelpie has a tag once, and none that looks like an id. */
  #tagFor(point: PointEntry, name: string): string {
    const which = `snapshot ${point.snapId} of "${name}"`;
    if (point.isLatin1) this.#request.warn?.(`${which}: what is not UTF-8 was read as Latin-1`);
    if (point.tag === "") return "";
    const used = this.#tags.get(name) ?? new Set<string>();
    this.#tags.set(name, used);
    const fitting = fittingTag(point.tag);
    const isFine = !used.has(fitting) && !/^#?\d+$/.test(fitting);
    const tag = isFine ? fitting : `${fitting}~${point.snapId}`;
    if (tag !== point.tag) this.#request.warn?.(`${which}: "${point.tag}" became "${tag}"`);
    used.add(tag);
    return tag;
  }

  async #pointsOf(name: string) {
    try {
      return await this.#target.control.call("vdi.list", { name });
    } catch (error) {
      if (isKelpieError(error, "not-found")) return [];
      throw error;
    }
  }

  #advance(bytes: number): void {
    this.#progress.doneBytes += bytes;
    this.#request.progress?.({ ...this.#progress });
  }
}

/** What the copy has is not what the original had: it can only be made anew. */
function wasTouched(name: string, { snapId, tag }: { snapId: number; tag: string }): KelpieError {
  const which = tag === "" ? `${snapId}` : `${snapId} ("${tag}")`;
  const message = `somebody took snapshot ${which} of "${name}", which is not copied to its end yet`;
  return new KelpieError("exists", message, {
    remedy: `Delete "${name}" with its snapshots, and copy it again from the beginning.`,
  });
}

/** Of what the original takes, and what Latin-1 is in UTF-8, not all can be a tag. */
function fittingTag(text: string): string {
  const clean = text.replace(/\p{Cc}/gu, "?");
  return Buffer.byteLength(clean) <= tagBytesMax ? clean : clean.slice(0, tagBytesMax / 4);
}

function wholeSectors(sizeBytes: number): number {
  return Math.ceil(sizeBytes / sectorBytes) * sectorBytes;
}
