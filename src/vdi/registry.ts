import { z } from "zod";
import { assert } from "../base/assert.ts";
import { KelpieError } from "../base/errors.ts";
import type { CatalogRecord } from "../store/formats/catalog-record.ts";
import type { Registry } from "../store/store.ts";
import { parseSelector, type Selector } from "./names.ts";
import { type FlushMode, type Note, parseNote } from "./notes.ts";
import { ObjectRegistry, objectsSaved } from "./objects/object-registry.ts";
import { type Qos, qosFields } from "./qos.ts";
import { VmRegistry, vmsSaved } from "./vm-registry.ts";

const working = z.object({
  name: z.string(),
  /** Point of the working VDI. */
  tip: z.number(),
  /** The snap id its next snapshot gets. */
  snapId: z.number(),
  createdMs: z.number(),
});
const snapshot = z.object({
  name: z.string(),
  point: z.number(),
  snapId: z.number(),
  tag: z.string(),
  takenMs: z.number(),
  /** When it began, as a working VDI; not there in stores of before Sheepdog. */
  createdMs: z.number().optional(),
});
const discarded = z.object({
  name: z.string(),
  point: z.number(),
  why: z.enum(["rollback", "undelete", "flatten", "delete"]),
  discardedMs: z.number(),
});
const saved = z.object({
  working: z.array(working),
  snapshots: z.array(snapshot),
  discarded: z.array(discarded),
  /** Not there in stores of before Sheepdog. */
  objects: objectsSaved.optional(),
  /** Not there in stores of before VMs. */
  vms: vmsSaved.optional(),
  /** Of disks that have limits; not there in stores of before those. */
  qos: z.array(z.tuple([z.string(), qosFields])).optional(),
  /** Disks whose flushes are local; not there in stores of before object stores. */
  flushesLocally: z.array(z.string()).optional(),
  /** Bytes by pattern. */
  quotas: z.array(z.tuple([z.string(), z.number()])).optional(),
});

export type Working = z.infer<typeof working>;
export type SnapshotNote = z.infer<typeof snapshot>;
export type Discarded = z.infer<typeof discarded>;

/**
 * Names, tags and snap ids, as the catalog's notes made them. Sheepdog's rules: the working VDI has the
 * highest snap id; a snapshot keeps the id the working VDI had; a new working VDI of a name gets one
 * more than its newest snapshot that is left.
 */
export class VdiRegistry implements Registry {
  readonly working = new Map<string, Working>();
  readonly #snapshots = new Map<number, SnapshotNote>();
  /** By name, by ascending snap id. */
  readonly #byName = new Map<string, SnapshotNote[]>();
  readonly discarded = new Map<number, Discarded>();
  readonly objects = new ObjectRegistry();
  readonly vms = new VmRegistry();
  /** By name: it stays with the disk through rollbacks, until the disk is deleted. */
  readonly qos = new Map<string, Qos>();
  /** Bytes by pattern of names. */
  readonly quotas = new Map<string, number>();
  /** Told of each note that is a fact. It must neither fail nor change anything. */
  watcher: ((note: Note, timeMs: number) => void) | undefined;
  readonly #nameOfTip = new Map<number, string>();
  readonly #flushesLocally = new Set<string>();

  load(value: unknown): void {
    if (value === undefined || value === null) return;
    const state = saved.parse(value);
    for (const entry of state.working) this.#putWorking(entry);
    for (const entry of state.snapshots) this.#addSnapshot(entry);
    for (const entry of state.discarded) this.discarded.set(entry.point, entry);
    if (state.objects !== undefined) this.objects.load(state.objects);
    if (state.vms !== undefined) this.vms.load(state.vms);
    for (const [name, qos] of state.qos ?? []) this.qos.set(name, qos);
    for (const name of state.flushesLocally ?? []) this.#flushesLocally.add(name);
    for (const [pattern, bytes] of state.quotas ?? []) this.quotas.set(pattern, bytes);
  }

  save(): unknown {
    return {
      working: [...this.working.values()].map((entry) => ({ ...entry })),
      snapshots: [...this.#snapshots.values()].map((entry) => ({ ...entry })),
      discarded: [...this.discarded.values()].map((entry) => ({ ...entry })),
      objects: this.objects.save(),
      vms: this.vms.save(),
      ...(this.qos.size === 0 ? {} : { qos: [...this.qos] }),
      ...(this.#flushesLocally.size === 0 ? {} : { flushesLocally: [...this.#flushesLocally] }),
      ...(this.quotas.size === 0 ? {} : { quotas: [...this.quotas] }),
    };
  }

  apply(record: CatalogRecord): void {
    for (const value of record.notes) {
      const note = parseNote(value);
      // Before it is applied: afterwards a snapshot that it deletes has no name.
      this.watcher?.(note, record.timeMs);
      this.#apply(note, record.timeMs);
    }
  }

  /** Throws "not-found" naming the disk. */
  find(name: string): Working {
    const entry = this.working.get(name);
    if (entry !== undefined) return entry;
    const left = this.#byName.has(name) ? "; only snapshots of it are left" : "";
    throw new KelpieError("not-found", `there is no disk "${name}"${left}`, {
      remedy: left === "" ? "`kelpie vdi list` shows the disks." : `kelpie vdi undelete ${name}`,
    });
  }

  /** By tag or snap id; of several with one tag, the newest. Throws "not-found". */
  findSnapshot(name: string, text: string): SnapshotNote {
    const selector = parseSelector(text);
    const all = this.snapshotsOf(name);
    const found = all.findLast((entry) => isSelected(entry, selector));
    if (found !== undefined) return found;
    if (all.length === 0) this.find(name);
    const what = selector.kind === "id" ? `snapshot ${selector.snapId}` : `snapshot "${text}"`;
    throw new KelpieError("not-found", `disk "${name}" has no ${what}`, {
      remedy: `\`kelpie vdi list ${name}\` shows its snapshots.`,
    });
  }

  /** By tag or snap id. */
  hasSnapshot(name: string, text: string): boolean {
    if (text === "") return false;
    const selector = parseSelector(text);
    return this.snapshotsOf(name).some((entry) => isSelected(entry, selector));
  }

  hasTag(name: string, tag: string): boolean {
    return tag !== "" && this.snapshotsOf(name).some((entry) => entry.tag === tag);
  }

  snapshotsOf(name: string): readonly SnapshotNote[] {
    return this.#byName.get(name) ?? [];
  }

  snapshotAt(point: number): SnapshotNote | undefined {
    return this.#snapshots.get(point);
  }

  /** What a flush of a disk waits for, in a store in an object store. */
  flushModeOf(name: string): FlushMode {
    return this.#flushesLocally.has(name) ? "local" : "object";
  }

  /** Of a snapshot: "disk@tag", or "disk@#3". */
  nameOfPoint(point: number): string | undefined {
    const entry = this.#snapshots.get(point);
    return entry === undefined ? undefined : `${entry.name}@${entry.tag || `#${entry.snapId}`}`;
  }

  /** Of a working VDI or snapshot. */
  nameOf(point: number): string | undefined {
    return this.#snapshots.get(point)?.name ?? this.#nameOfTip.get(point);
  }

  /** Of the working VDI. */
  nameOfTip(point: number): string | undefined {
    return this.#nameOfTip.get(point);
  }

  names(): string[] {
    return [...new Set([...this.working.keys(), ...this.#byName.keys()])].sort();
  }

  discardedOf(name: string): Discarded[] {
    const all = [...this.discarded.values()].filter((entry) => entry.name === name);
    return all.sort((a, b) => b.discardedMs - a.discardedMs || b.point - a.point);
  }

  #apply(note: Note, timeMs: number): void {
    switch (note.type) {
      case "create":
        this.#flushesLocally.delete(note.name);
        this.discarded.delete(note.tip);
        this.#setWorking(note.name, note.tip, timeMs);
        break;
      case "snapshot": {
        const { name, snapId, tag, tip, takenMs = timeMs } = note;
        const before = this.#mustHave(name);
        const createdMs = note.createdMs ?? before.createdMs;
        this.#addSnapshot({ name, point: before.tip, snapId, tag, takenMs, createdMs });
        this.#putWorking({ name, tip, snapId: snapId + 1, createdMs: takenMs });
        break;
      }
      case "replace":
        this.#discard(this.#mustHave(note.name), note.why, timeMs);
        this.discarded.delete(note.tip);
        this.#setWorking(note.name, note.tip, timeMs);
        break;
      case "delete":
        this.#discard(this.#mustHave(note.name), "delete", timeMs);
        this.#removeWorking(note.name);
        this.qos.delete(note.name);
        break;
      case "deleteSnapshot": {
        this.#removeSnapshot(note.point);
        const entry = this.objects.vids.ofPoint(note.point);
        if (entry !== undefined) entry.deleted = true;
        this.objects.forget(note.point);
        break;
      }
      case "purge":
        this.discarded.delete(note.point);
        this.objects.forget(note.point);
        break;
      case "vids":
        for (const entry of note.vids) {
          // Of what is of no name any more when the record comes to stand: a deleted snapshot's.
          const isNamed = this.nameOf(entry.point) !== undefined;
          const deleted = !isNamed && !this.discarded.has(entry.point);
          this.objects.vids.add({ ...entry, deleted });
        }
        break;
      case "inode":
        this.objects.inodes.set(note.point, note.inode);
        break;
      case "extra":
        this.objects.extras.set(note.point, note.extra);
        break;
      case "attribute":
        this.objects.setAttribute({ ...note.attribute, createdMs: timeMs });
        break;
      case "format":
        this.objects.format = note.format;
        break;
      case "qos":
        if (note.qos === null) this.qos.delete(note.name);
        else this.qos.set(note.name, note.qos);
        break;
      case "quota":
        if (note.limitBytes === null) this.quotas.delete(note.pattern);
        else this.quotas.set(note.pattern, note.limitBytes);
        break;
      case "vm":
        this.vms.set(note.record);
        break;
      case "forgetVm":
        this.vms.forget(note.name);
        break;
      case "flush":
        if (note.mode === "local") this.#flushesLocally.add(note.name);
        else this.#flushesLocally.delete(note.name);
        break;
    }
  }

  #setWorking(name: string, tip: number, timeMs: number): void {
    const newest = this.snapshotsOf(name).at(-1)?.snapId ?? 0;
    this.#putWorking({ name, tip, snapId: newest + 1, createdMs: timeMs });
    if (this.objects.vids.ofPoint(tip)?.name !== name) this.objects.vids.unbind(tip);
  }

  #putWorking(entry: Working): void {
    this.#removeWorking(entry.name);
    this.working.set(entry.name, entry);
    this.#nameOfTip.set(entry.tip, entry.name);
  }

  #removeWorking(name: string): void {
    const before = this.working.get(name);
    if (before === undefined) return;
    this.working.delete(name);
    this.#nameOfTip.delete(before.tip);
  }

  #discard(entry: Working, why: Discarded["why"], discardedMs: number): void {
    this.discarded.set(entry.tip, { name: entry.name, point: entry.tip, why, discardedMs });
  }

  #mustHave(name: string): Working {
    const entry = this.working.get(name);
    if (entry === undefined) throw new KelpieError("corrupt", `the catalog has no disk "${name}"`);
    return entry;
  }

  #addSnapshot(entry: SnapshotNote): void {
    this.#snapshots.set(entry.point, entry);
    const list = this.#byName.get(entry.name);
    if (list === undefined) this.#byName.set(entry.name, [entry]);
    else list.push(entry);
  }

  #removeSnapshot(point: number): void {
    const entry = this.#snapshots.get(point);
    assert(entry !== undefined, "a snapshot that is deleted was there");
    this.#snapshots.delete(point);
    const left = this.snapshotsOf(entry.name).filter((other) => other !== entry);
    if (left.length === 0) this.#byName.delete(entry.name);
    else this.#byName.set(entry.name, left);
  }
}

function isSelected(entry: SnapshotNote, selector: Selector): boolean {
  return selector.kind === "id" ? entry.snapId === selector.snapId : entry.tag === selector.tag;
}
