import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../sim/random.ts";
import {
  dataOf,
  inodeOf,
  newVdi,
  openMemoryObjects,
  select,
} from "../../../test/support/memory-objects.ts";
import { decodeInodeEntries, encodeInodeEntries } from "../../sheepdog/wire-inode.ts";
import { ObjectError } from "./objects.ts";

/** Objects that share a chunk of the map, as large as one, and of two. */
const shifts = [22, 20, 23];
const objectCount = 6;
/** The part of each object that is written. */
const usedBytes = 32768;
const seeds = [1, 2, 3, 4, 5, 6];

type Opened = Awaited<ReturnType<typeof openMemoryObjects>>;
type Content = Uint8Array[];

/** A client as QEMU's driver is one: it keeps its own map and reloads only the header. */
class Client {
  opened: Opened;
  vid = 0;
  owners: number[] = [];

  constructor(opened: Opened) {
    this.opened = opened;
  }

  async open(): Promise<void> {
    this.vid = await this.opened.vidOf("a");
    this.owners = await this.opened.owners(this.vid, objectCount);
  }

  async write(index: number, offset: number, bytes: Uint8Array): Promise<void> {
    const { objects } = this.opened;
    for (;;) {
      const owner = this.owners[index] as number;
      try {
        if (owner === this.vid) {
          await objects.write(dataOf(this.vid, index), offset, [bytes]);
          return;
        }
        const cow = owner === 0 ? {} : { cow: dataOf(owner, index) };
        await objects.create(dataOf(this.vid, index), { offset, chunks: [bytes], ...cow });
        this.owners[index] = this.vid;
        await this.#writeEntry(index);
        return;
      } catch (error) {
        if (!(error instanceof ObjectError && error.refusal === "read-only")) throw error;
        this.vid = await this.opened.vidOf("a");
      }
    }
  }

  async discard(index: number): Promise<void> {
    if (this.owners[index] === 0) return;
    this.owners[index] = 0;
    // QEMU does not learn from it that its vid was frozen: what it gives up of a snapshot stays there.
    await this.#writeEntry(index);
  }

  async read(index: number, target: Uint8Array): Promise<void> {
    const owner = this.owners[index] as number;
    if (owner === 0) target.fill(0);
    else await this.opened.objects.read(dataOf(owner, index), 0, target);
  }

  async snapshot(): Promise<void> {
    const request = newVdi("a", { snapshot: true, baseVid: this.vid });
    this.vid = (await this.opened.objects.newVdi(request)).vid;
  }

  async rollback(snapId: number): Promise<void> {
    const { objects } = this.opened;
    const { vid } = await objects.lookup(select("a", snapId));
    await objects.deleteVdi(select("a"));
    await objects.newVdi(newVdi("a", { baseVid: vid }));
    await this.open();
  }

  async #writeEntry(index: number): Promise<void> {
    const bytes = encodeInodeEntries([this.owners[index] as number]);
    await this.opened.objects.write(inodeOf(this.vid), 4664 + 4 * index, [bytes]);
  }
}

function copyOf(content: Content): Content {
  return content.map((bytes) => Buffer.from(bytes));
}

/** Reads all of a vid the way its clients do: entries first, then the objects of their owners. */
async function checkInode(opened: Opened, vid: number, expected: Content): Promise<void> {
  const entries = Buffer.alloc(4 * objectCount);
  await opened.objects.read(inodeOf(vid), 4664, entries);
  const owners = decodeInodeEntries(entries);
  for (const [index, owner] of owners.entries()) {
    const target = Buffer.alloc(usedBytes);
    if (owner !== 0) await opened.objects.read(dataOf(owner, index), 0, target);
    assert.ok(target.equals(expected[index] as Uint8Array), `object ${index} of ${vid}`);
    // What it does not own it shares.
    if (owner !== 0) await opened.objects.read(dataOf(vid, index), 0, target);
    assert.ok(target.equals(expected[index] as Uint8Array), `object ${index} by ${vid}`);
  }
}

for (const seed of seeds) {
  test(`a client, others over NBD, and a model see one disk (seed ${seed})`, async () => {
    const random = new SeededRandom(seed);
    let opened = await openMemoryObjects();
    const blockSizeShift = shifts[seed % shifts.length] as number;
    const objectBytes = 2 ** blockSizeShift;
    const sizeBytes = objectCount * objectBytes;
    await opened.objects.newVdi(newVdi("a", { blockSizeShift, sizeBytes }));
    const client = new Client(opened);
    await client.open();
    let now: Content = Array.from({ length: objectCount }, () => Buffer.alloc(usedBytes));
    const snapshots = new Map<number, Content>();

    const oneOf = (all: Map<number, Content>): number | undefined =>
      all.size === 0 ? undefined : [...all.keys()][random.below(all.size)];

    const freeze = () => {
      const { snapId } = opened.vdis.registry.find("a");
      return () => snapshots.set(snapId, copyOf(now));
    };
    const actions: Record<string, () => Promise<void>> = {
      write: async () => {
        const index = random.below(objectCount);
        const offset = random.below(usedBytes - 1);
        const bytes = Buffer.alloc(1 + random.below(usedBytes - offset), 1 + random.below(255));
        await client.write(index, offset, bytes);
        now[index]?.set(bytes, offset);
      },
      writeNbd: async () => {
        // Where the client has an object of its own: else it would not know of this one.
        const index = client.owners.indexOf(client.vid);
        if (index === -1) return;
        const bytes = Buffer.alloc(4096, 1 + random.below(255));
        await opened.vdis.volume("a").write([bytes], index * objectBytes + 4096);
        // Its vid may be a snapshot's by now.
        client.vid = await opened.vidOf("a");
        client.owners = await opened.owners(client.vid, objectCount);
        now[index]?.set(bytes, 4096);
      },
      discard: async () => {
        const index = random.below(objectCount);
        client.vid = await opened.vidOf("a");
        await client.discard(index);
        now[index]?.fill(0);
      },
      snapshot: async () => {
        client.vid = await opened.vidOf("a");
        const frozen = freeze();
        await client.snapshot();
        frozen();
      },
      snapshotNbd: async () => {
        const frozen = freeze();
        await opened.vdis.snapshot(["a"]);
        frozen();
      },
      deleteSnapshot: async () => {
        const snapId = oneOf(snapshots);
        if (snapId === undefined) return;
        if (random.below(2) === 0) await opened.objects.deleteVdi(select("a", snapId));
        else await opened.vdis.deleteSnapshot("a", `#${snapId}`);
        snapshots.delete(snapId);
      },
      rollback: async () => {
        const snapId = oneOf(snapshots);
        if (snapId === undefined) return;
        await client.rollback(snapId);
        now = copyOf(snapshots.get(snapId) as Content);
      },
      clean: async () => {
        await opened.vdis.store.clean();
      },
      checkpoint: () => opened.vdis.store.checkpoint(),
      crash: async () => {
        await opened.objects.flush(await opened.vidOf("a"));
        opened = await openMemoryObjects(opened.files.crashKeepingNothing());
        client.opened = opened;
      },
    };
    const names = [
      ...new Array<string>(8).fill("write"),
      ...["writeNbd", "discard", "discard", "snapshot", "snapshot", "snapshotNbd"],
      ...["deleteSnapshot", "rollback", "clean", "checkpoint", "crash"],
    ];
    const done: string[] = [];
    try {
      for (let step = 0; step < 120; step++) {
        const name = names[random.below(names.length)] as string;
        done.push(name);
        await actions[name]?.();
        const target = Buffer.alloc(usedBytes);
        const index = random.below(objectCount);
        await client.read(index, target);
        assert.ok(target.equals(now[index] as Uint8Array), `the client's object ${index}`);
        if (step % 10 !== 0) continue;
        await checkInode(opened, await opened.vidOf("a"), now);
        for (const [snapId, content] of snapshots) {
          await checkInode(opened, await opened.vidOf("a", snapId), content);
        }
      }
    } catch (error) {
      throw new Error(`after ${done.join(" ")}`, { cause: error });
    }
    await opened.vdis.close();
  });
}
