import assert from "node:assert/strict";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import { SeededRandom } from "../../sim/random.ts";
import { messageOf } from "../../src/base/errors.ts";
import type { Files } from "../../src/host/files.ts";
import type { Host } from "../../src/host/host.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { checkStore } from "../../src/store/check.ts";
import type { CatalogRecord } from "../../src/store/formats/catalog-record.ts";
import type { Point } from "../../src/store/point.ts";
import { Store, type StoreSettings } from "../../src/store/store.ts";
import type { Tip } from "../../src/store/tip.ts";

const blockBytes = 4096;
/** Some of the first chunk, and some far away, so that several pages and chunks take part. */
export const blocks = [
  ...Array.from({ length: 24 }, (_, at) => at * 3),
  1023,
  1024,
  1025,
  4096,
  1024 * 1024 + 5,
  1024 * 1024 + 6,
];

/** All that writes of up to six blocks can touch, in runs that are read at once. */
const runs = runsOf(blocks.flatMap((block) => Array.from({ length: 6 }, (_, at) => block + at)));

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
    for (const note of record.notes as {
      tip?: [string, number];
      snapshot?: number;
      gone?: number;
    }[]) {
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
  #turn: Promise<void> = Promise.resolve();

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
    const data = Buffer.concat(
      Array.from({ length: run }, (_, index) => contentOf(number + index)),
    );
    this.#nextContent += run;
    const next = new Map(disk.content);
    for (let index = 0; index < run; index++) next.set(first + index, number + index);
    await this.#change(disk, next, () =>
      disk.tip.write([data.subarray(0, 100), data.subarray(100)], first),
    );
  }

  async trim(disk: Disk): Promise<void> {
    const first = blocks[this.random.below(blocks.length)] as number;
    const count = this.random.below(3) === 0 ? 5000 : 1 + this.random.below(70);
    const next = new Map(disk.content);
    for (const block of next.keys())
      if (block >= first && block < first + count) next.delete(block);
    const kind = this.random.below(2) === 0 ? "hole" : "zero";
    await this.#change(disk, next, () => disk.tip.zero(first, count, kind));
  }

  async flush(disk: Disk): Promise<void> {
    const { content } = disk;
    await disk.tip.flush();
    dropBefore(disk, content);
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

  /**
   * Many requests at once, in one order: writes, flushes and snapshots that fall between them. Each
   * write is appended in the order it was asked for, so every state is a prefix.
   */
  async burst(disk: Disk, count: number): Promise<void> {
    // Without a log the first writes wait for one, and then their order is not that of asking.
    const { host } = this;
    const { tip } = disk;
    await tip.openLog();
    const states = [disk.content];
    const jobs: Promise<void>[] = [];
    const start = (job: Promise<void>) => {
      // Its failure is looked at below, which may be later than it happens.
      job.catch(() => {});
      jobs.push(job);
    };
    let acked = 0;
    for (let step = 0; step < count; step++) {
      const choice = this.random.below(10);
      if (choice === 0) {
        const covered = states[acked] as Content;
        start(
          Promise.resolve(tip.flush()).then(() => {
            dropBefore(disk, covered);
          }),
        );
      } else if (choice === 1) {
        start(this.#snapshotWithin(disk, states));
      } else {
        const first = blocks[this.random.below(blocks.length)] as number;
        const number = this.#nextContent++;
        const next = new Map(states.at(-1)).set(first, number);
        states.push(next);
        disk.possible.push(next);
        start(
          tip.write([contentOf(number)], first).then(() => {
            acked++;
          }),
        );
      }
      if (this.random.below(4) === 0) await new Promise(setImmediate);
      // After a crash this goes on in nobody's name.
      if (this.host !== host) return;
    }
    await Promise.all(jobs);
    if (this.host === host) disk.content = states.at(-1) as Content;
  }

  /** Power is cut somewhere within `action`, or right after it. */
  async crashDuring(
    kind: "random" | "nothing" | "everything",
    action: () => Promise<unknown>,
  ): Promise<void> {
    const { files } = this.host;
    let left: MemoryFiles | undefined;
    let countdown = 1 + this.random.below(40);
    const crashed = new Promise<void>((resolve) => {
      files.before = () => {
        if (--countdown > 0 || left !== undefined) return;
        left = this.#afterCrash(kind);
        resolve();
      };
    });
    const done = action().catch((error) => {
      if (left === undefined) throw error;
    });
    await Promise.race([done, crashed]);
    // What was answered by now counts; what is answered later nobody hears.
    left ??= this.#afterCrash(kind);
    this.host = createMemoryHost({ seed: this.random.below(2 ** 30), files: left });
    this.#turn = Promise.resolve();
    await this.reopen();
  }

  /** Power loss: opens what is left, and holds it against what each disk may hold now. */
  async crash(kind: "random" | "nothing" | "everything"): Promise<void> {
    const left = this.#afterCrash(kind);
    this.host = createMemoryHost({ seed: this.random.below(2 ** 30), files: left });
    await this.reopen();
  }

  #afterCrash(kind: "random" | "nothing" | "everything"): MemoryFiles {
    const { files } = this.host;
    if (kind === "random") return files.crash(this.random);
    return kind === "nothing" ? files.crashKeepingNothing() : files.crashKeepingEverything();
  }

  async reopen(): Promise<void> {
    await this.open();
    for (const disk of this.disks) {
      const point = this.store.point(this.registry.tips[disk.name] as number);
      disk.tip = this.store.tip(point);
      const found = await this.#read(point);
      const match = disk.possible.findLast((content) => differenceOf(found, content) === "");
      assert.ok(
        match !== undefined,
        `disk ${disk.name} is none of the ${disk.possible.length} states it may be in: ` +
          `from the last: ${differenceOf(found, disk.possible.at(-1) as Content)}`,
      );
      disk.content = match;
      disk.possible = [match];
    }
    for (const snapshot of this.snapshots) snapshot.point = this.store.point(snapshot.point.id);
    await this.#adoptUnanswered();
    await this.verify();
  }

  /** Snapshots whose record was written, but whose answer nobody heard. */
  async #adoptUnanswered(): Promise<void> {
    const known = new Set(this.snapshots.map((snapshot) => snapshot.point.id));
    for (const id of this.registry.snapshots) {
      if (known.has(id)) continue;
      const point = this.store.point(id);
      this.snapshots.push({ point, content: await this.#read(point) });
    }
  }

  async #snapshotWithin(disk: Disk, states: readonly Content[]): Promise<void> {
    const id = this.store.allocateId();
    const { tip } = disk;
    // Two snapshots of one disk come one after the other; the layer above sees to that.
    const { store } = this;
    const turn = this.#turn.then(async () => {
      const point = tip.point;
      await store.snapshot([{ tip, id }], [{ snapshot: point.id }, { tip: [disk.name, id] }]);
      const found = await this.#read(point);
      if (this.store !== store) return;
      const content = states.find((state) => differenceOf(found, state) === "");
      assert.ok(content !== undefined, "a snapshot is no moment of its disk");
      this.snapshots.push({ point, content });
      dropBefore(disk, content);
    });
    this.#turn = turn.catch(() => {});
    await turn;
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
    for (const { first, count } of runs) {
      const target = Buffer.alloc(count * blockBytes, 0xee);
      await this.store.read(point, { target, first });
      for (let at = 0; at < count; at++) {
        const number = numberOf(target.subarray(at * blockBytes, (at + 1) * blockBytes));
        if (number !== 0) found.set(first + at, number);
      }
    }
    return found;
  }
}

/** What the disk holds after power loss is this state or a later one. */
function dropBefore(disk: Disk, state: Content): void {
  const at = disk.possible.indexOf(state);
  if (at > 0) disk.possible = disk.possible.slice(at);
}

function contentOf(number: number): Buffer {
  const pattern = Buffer.alloc(4);
  pattern.writeUInt32LE(number);
  return Buffer.alloc(blockBytes, pattern);
}

function numberOf(block: Buffer): number {
  const number = block.readUInt32LE(0);
  assert.ok(block.equals(contentOf(number)), "a block is a mixture");
  return number;
}

function differenceOf(found: Content, expected: Content): string {
  const differences: string[] = [];
  for (const [block, number] of expected) {
    if (found.get(block) !== number)
      differences.push(`${block}: ${found.get(block)} not ${number}`);
  }
  for (const [block, number] of found) {
    if (!expected.has(block)) differences.push(`${block}: ${number} not a hole`);
  }
  return differences.slice(0, 5).join("; ");
}

function runsOf(numbers: readonly number[]): { first: number; count: number }[] {
  const found: { first: number; count: number }[] = [];
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last !== undefined && last.first + last.count === number) last.count++;
    else found.push({ first: number, count: 1 });
  }
  return found;
}
