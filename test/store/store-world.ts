import assert from "node:assert/strict";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { SeededRandom } from "../../sim/random.ts";
import type { Files } from "../../src/host/files.ts";
import type { Host } from "../../src/host/host.ts";
import { messageOf } from "../../src/base/errors.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import type { CatalogRecord } from "../../src/store/formats/catalog-record.ts";
import { checkStore } from "../../src/store/check.ts";
import type { Point } from "../../src/store/point.ts";
import { Store, type StoreSettings } from "../../src/store/store.ts";
import type { Tip } from "../../src/store/tip.ts";

const blockBytes = 4096;
/** Some of the first chunk, and some far away, so that several pages and chunks take part. */
export const blocks = [
  ...Array.from({ length: 24 }, (_, at) => at * 3),
  1023, 1024, 1025, 4096, 1024 * 1024 + 5, 1024 * 1024 + 6,
];

/** What a block holds: 0 for zeros, else the number its bytes are made of. */
export type Content = Map<number, number>;

export interface Disk {
  name: string;
  tip: Tip;
  content: Content;
  /** Contents it may have after power loss: as of the last flush, and after each step since. */
  possible: Content[];
}

export interface Snapshot {
  point: Point;
  content: Content;
}

/** The layer above the store, as little of it as tests need: which point is whose tip. */
class TipRegistry {
  tips: Record<string, number> = {};
  snapshots: number[] = [];
  load(saved: unknown): void {
    if (saved === undefined) return;
    const state = saved as { tips: Record<string, number>; snapshots: number[] };
    this.tips = { ...state.tips };
    this.snapshots = [...state.snapshots];
  }
  apply(record: CatalogRecord): void {
    for (const note of record.notes as { tip?: [string, number]; snapshot?: number; gone?: number }[]) {
      if (note.tip !== undefined) this.tips[note.tip[0]] = note.tip[1];
      if (note.snapshot !== undefined) this.snapshots.push(note.snapshot);
      if (note.gone !== undefined) {
        this.snapshots = this.snapshots.filter((id) => id !== note.gone);
      }
    }
  }
  save(): unknown {
    return structuredClone({ tips: this.tips, snapshots: this.snapshots });
  }
}

export class StoreWorld {
  readonly random: SeededRandom;
  host: MemoryHost;
  store!: Store;
  registry = new TipRegistry();
  disks: Disk[] = [];
  snapshots: Snapshot[] = [];
  #nextContent = 1;
  #settings: Partial<StoreSettings>;

  constructor(seed: number, settings: Partial<StoreSettings> = {}) {
    this.random = new SeededRandom(seed);
    this.host = createMemoryHost({ seed });
    this.#settings = settings;
  }

  async open(): Promise<void> {
    const host: Host = { ...this.host, files: this.filesFor(this.host.files) };
    const backend = await openDirectoryBackend({ root: "/store" }, host);
    this.registry = new TipRegistry();
    this.store = await Store.open(
      { directory: "/store", create: true, segmentBytesMax: 256 * 1024, ...this.#settings },
      { host, backend, registry: this.registry },
    );
  }

  /** What the store gets to see of the disk. */
  protected filesFor(files: Files): Files {
    return files;
  }

  async addDisk(name: string): Promise<void> {
    const id = this.store.allocateId();
    const sizeBytes = 8 * 2 ** 30;
    await this.store.commit([{ type: "point", id, parent: 0, sizeBytes }], [{ tip: [name, id] }]);
    const tip = this.store.tip(this.store.point(id));
    this.disks.push({ name, tip, content: new Map(), possible: [new Map()] });
  }

  async write(disk: Disk, count = 1 + this.random.below(6)): Promise<void> {
    const at = this.random.below(blocks.length);
    const first = blocks[at] as number;
    const run = this.random.below(4) === 0 ? count : 1;
    const number = this.#nextContent++;
    const data = Buffer.concat(Array.from({ length: run }, (_, index) => contentOf(number + index)));
    this.#nextContent += run;
    const next = new Map(disk.content);
    for (let index = 0; index < run; index++) next.set(first + index, number + index);
    await this.#change(disk, next, () => disk.tip.write([data.subarray(0, 100), data.subarray(100)], first));
  }

  async trim(disk: Disk): Promise<void> {
    const first = blocks[this.random.below(blocks.length)] as number;
    const count = this.random.below(3) === 0 ? 5000 : 1 + this.random.below(70);
    const next = new Map(disk.content);
    for (const block of next.keys()) if (block >= first && block < first + count) next.delete(block);
    const kind = this.random.below(2) === 0 ? "hole" : "zero";
    await this.#change(disk, next, () => disk.tip.zero(first, count, kind));
  }

  async flush(disk: Disk): Promise<void> {
    const { content } = disk;
    await disk.tip.flush();
    const at = disk.possible.indexOf(content);
    disk.possible = disk.possible.slice(at);
  }

  async snapshot(disks: Disk[]): Promise<void> {
    const requests = disks.map((disk) => ({ disk, tip: disk.tip, id: this.store.allocateId() }));
    const frozen = disks.map((disk) => ({ point: disk.tip.point, content: disk.content }));
    const notes = requests.flatMap(({ disk, id, tip }) => [
      { snapshot: tip.point.id },
      { tip: [disk.name, id] },
    ]);
    await this.store.snapshot(requests, notes);
    this.snapshots.push(...frozen);
    for (const { content } of frozen) {
      const disk = disks.find((one) => one.possible.includes(content));
      if (disk !== undefined) disk.possible = disk.possible.slice(disk.possible.indexOf(content));
    }
  }

  async rollback(disk: Disk, snapshot: Snapshot, keepOld = false): Promise<void> {
    const id = this.store.allocateId();
    const old = disk.tip.point.id;
    const base = snapshot.point;
    const sizeBytes = base.sizeBytes;
    await this.store.move(
      [{ tip: disk.tip, to: { kind: "new", id, base, sizeBytes } }],
      [{ tip: [disk.name, id] }],
    );
    disk.content = snapshot.content;
    disk.possible = [snapshot.content];
    if (!keepOld) await this.store.commit([{ type: "delete", id: old }], []);
  }

  async deleteSnapshot(snapshot: Snapshot): Promise<void> {
    const { id } = snapshot.point;
    this.snapshots = this.snapshots.filter((other) => other !== snapshot);
    await this.store.commit([{ type: "delete", id }], [{ gone: id }]);
  }

  /** Reads everything and compares. */
  async verify(): Promise<void> {
    for (const disk of this.disks) {
      const found = await this.#read(disk.tip.point);
      assert.equal(differenceOf(found, disk.content), "", `disk ${disk.name}`);
    }
    for (const snapshot of this.snapshots) {
      const found = await this.#read(snapshot.point);
      assert.equal(differenceOf(found, snapshot.content), "", `snapshot ${snapshot.point.id}`);
    }
  }

  async check(): Promise<void> {
    // A removal that was not durable is undone by a crash, until the next cleaning.
    await this.store.clean();
    const { findings } = await checkStore(this.store, { repair: false });
    const bad = findings.filter((finding) => finding.severity !== "note");
    assert.deepEqual(bad, []);
  }

  /** Power loss: opens what is left, and holds it against what each disk may hold now. */
  async crash(kind: "random" | "nothing" | "everything"): Promise<void> {
    const { files } = this.host;
    const left: MemoryFiles =
      kind === "random"
        ? files.crash(this.random)
        : kind === "nothing"
          ? files.crashKeepingNothing()
          : files.crashKeepingEverything();
    this.host = createMemoryHost({ seed: this.random.below(2 ** 30), files: left });
    await this.reopen();
  }

  async reopen(): Promise<void> {
    await this.open();
    for (const disk of this.disks) {
      const point = this.store.point(this.registry.tips[disk.name] as number);
      disk.tip = this.store.tip(point);
      const found = await this.#read(point);
      const match = disk.possible.find((content) => differenceOf(found, content) === "");
      assert.ok(
        match !== undefined,
        `disk ${disk.name} is none of the ${disk.possible.length} states it may be in: ` +
          `from the last: ${differenceOf(found, disk.possible.at(-1) as Content)}`,
      );
      disk.content = match;
      disk.possible = [match];
    }
    for (const snapshot of this.snapshots) snapshot.point = this.store.point(snapshot.point.id);
    await this.verify();
  }

  async #change(disk: Disk, next: Content, action: () => Promise<void>): Promise<void> {
    // A crash may come while it is under way: then it may be there or not.
    disk.possible.push(next);
    try {
      await action();
      disk.content = next;
    } catch (error) {
      throw new Error(`${disk.name}: ${messageOf(error)}`, { cause: error });
    }
  }

  async #read(point: Point): Promise<Content> {
    const found: Content = new Map();
    const wanted = new Set(blocks.flatMap((block) => Array.from({ length: 7 }, (_, at) => block + at)));
    for (const block of wanted) {
      const target = Buffer.alloc(blockBytes, 0xee);
      await this.store.read(point, { target, first: block });
      const number = numberOf(target);
      if (number !== 0) found.set(block, number);
    }
    return found;
  }
}

function contentOf(number: number): Buffer {
  const block = Buffer.alloc(blockBytes);
  for (let at = 0; at < blockBytes; at += 4) block.writeUInt32LE(number, at);
  return block;
}

function numberOf(block: Buffer): number {
  const number = block.readUInt32LE(0);
  for (let at = 0; at < blockBytes; at += 4) {
    assert.equal(block.readUInt32LE(at), number, "a block is a mixture");
  }
  return number;
}

function differenceOf(found: Content, expected: Content): string {
  const differences: string[] = [];
  for (const [block, number] of expected) {
    if (found.get(block) !== number) differences.push(`${block}: ${found.get(block)} not ${number}`);
  }
  for (const [block, number] of found) {
    if (!expected.has(block)) differences.push(`${block}: ${number} not a hole`);
  }
  return differences.slice(0, 5).join("; ");
}
