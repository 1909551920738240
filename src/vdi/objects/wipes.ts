import { blockBytes } from "../../block/block-device.ts";
import { chunkBlocks } from "../../store/formats/map-node.ts";
import { eachOwnBlocks, eachOwnChunk, mapsAny } from "../../store/own-chunks.ts";
import type { Point } from "../../store/point.ts";
import type { Tip } from "../../store/tip.ts";
import { blocksOf } from "../byte-ranges.ts";
import type { Note } from "../notes.ts";
import type { Vdis } from "../vdis.ts";
import type { Volume } from "../volume.ts";
import { objectBytes, objectCount } from "./object-size.ts";
import type { VidResolver } from "./vid-resolver.ts";
import type { Vid } from "./vid-table.ts";

/** A client has this long from DEL_VDI to NEW_VDI, even if nothing that is discarded is kept. */
const rollbackMs = 60_000;

/** Blocks copied at once. */
const copyBlocksMax = 1024;

/**
 * Entries of a working VDI's inode that become zeros several at a time. `dog` does that before DEL_VDI,
 * and so the disk that could be brought back would be empty; QEMU does it to the working VDI, by
 * mistake, before DEL_VDI of a snapshot. So the tip is frozen and kept, hidden, among what was
 * discarded, and a new one loses the objects.
 */
export class Wipes {
  readonly #vdis: Vdis;
  readonly #vids: VidResolver;

  constructor(components: { vdis: Vdis; vids: VidResolver }) {
    this.#vdis = components.vdis;
    this.#vids = components.vids;
  }

  /** Of a working VDI. Nothing happens if it has become a snapshot meanwhile. */
  async wipe(entry: Vid, objects: readonly number[]): Promise<void> {
    const { name } = entry;
    const { store, locks, volumes } = this.#vdis;
    await locks.run([name], async () => {
      const found = this.#vids.resolve(entry.vid);
      if (found.kind !== "tip") return;
      const volume = volumes.get(name);
      const hidden = this.#hiddenOf(found.point);
      const isKept =
        hidden !== undefined && (await isUnchanged({ hidden, entry, objects, tip: found.point }));
      if (!isKept) {
        const id = store.allocateId();
        const note: Note = { type: "wipe", name, tip: id };
        await volumes.holdingVids([name], () => store.snapshot([{ tip: volume.tip, id }], [note]));
      }
      for (const { start, length } of runsOf(objects, entry, volume.sizeBytes)) {
        await volume.trim(start, length);
      }
    });
  }

  /** DEL_VDI of a working VDI: what was wiped is what comes back. */
  async deleteTip(entry: Vid): Promise<void> {
    const { name } = entry;
    const { registry, locks, store } = this.#vdis;
    await locks.run([name], async () => {
      const tip = store.point(registry.find(name).tip);
      const hidden = this.#hiddenOf(tip);
      this.#vdis.spareDiscarded((hidden ?? tip).id, rollbackMs);
      if (hidden === undefined) {
        await this.#vdis.deleteHolding(name, { ignoring: "sheepdog" });
        return;
      }
      await this.#vdis.claiming([hidden.id], async () => {
        const keep = await isWritten(tip, hidden);
        const note: Note = { type: "deleteWiped", name, hidden: hidden.id, keep };
        await this.#vdis.extras.deleting(keep ? [] : [tip.id], async (changes) => {
          const record = { changes, notes: [note] };
          await this.#vdis.deleteHolding(name, { ignoring: "sheepdog", record });
        });
      });
    });
  }

  /**
   * DEL_VDI of a snapshot of the name: what was wiped of the working VDI, and not written since, was
   * wiped by mistake. If nothing was written it moves back, else what is missing is copied.
   */
  async restore(name: string): Promise<void> {
    const { registry, locks, store, volumes } = this.#vdis;
    await locks.run([name], async () => {
      const working = registry.working.get(name);
      const entry = working && registry.objects.vids.ofPoint(working.tip);
      const tip = working && store.point(working.tip);
      const hidden = tip && this.#hiddenOf(tip);
      if (tip === undefined || entry === undefined || hidden === undefined) return;
      await this.#vdis.claiming([hidden.id], async () => {
        const drop = { type: "delete" as const, id: hidden.id };
        const volume = volumes.get(name);
        if (await isWritten(tip, hidden)) {
          await this.#copyBack(volume, { entry, hidden });
          await store.commit([drop], [{ type: "unwipe", name, hidden: hidden.id }]);
          return;
        }
        const id = store.allocateId();
        const { sizeBytes } = tip;
        const to = { kind: "new" as const, id, base: hidden, sizeBytes };
        const note: Note = { type: "unwipe", name, hidden: hidden.id, tip: id };
        const changes = [drop, { type: "delete" as const, id: tip.id }];
        await volumes.behindBarrier([name], async () => {
          // Whoever wrote may have done so since.
          if (await isWritten(tip, hidden)) return;
          await store.move([{ tip: volume.tip, to }], [note], changes);
        });
      });
    });
    // Somebody wrote in the moment before the door was shut.
    if (this.#isWiped(name)) await this.restore(name);
  }

  #isWiped(name: string): boolean {
    const tip = this.#vdis.registry.working.get(name)?.tip;
    return tip !== undefined && this.#hiddenOf(this.#vdis.store.point(tip)) !== undefined;
  }

  /** The point that keeps what was wiped of this tip. */
  #hiddenOf(tip: Point): Point | undefined {
    const { parent } = tip;
    if (parent === undefined || !this.#vdis.registry.isHidden(parent.id)) return undefined;
    return this.#vdis.isClaimed(parent.id) ? undefined : parent;
  }

  /** Objects that the disk has not, and had. */
  async #copyBack(volume: Volume, from: { entry: Vid; hidden: Point }): Promise<void> {
    const { hidden, entry } = from;
    const size = objectBytes(entry);
    const count = objectCount(hidden, entry);
    for (let index = 0; index < count; index++) {
      const start = index * size;
      const length = Math.min(size, hidden.sizeBytes - start, volume.sizeBytes - start);
      if (length <= 0) return;
      if (!(await mapsAny(hidden.map, blocksOf(start, length)))) continue;
      await volume.exclusively({ offset: start, length }, async (tip, blocks) => {
        if (!(await mapsAny(tip.point.map, blocks))) await this.#copy(hidden, tip, blocks);
      });
    }
  }

  async #copy(from: Point, to: Tip, blocks: { first: number; count: number }): Promise<void> {
    const { store } = this.#vdis;
    const end = blocks.first + blocks.count;
    for (let first = blocks.first; first < end; ) {
      const range = { first, count: end - first, extentsMax: 256 };
      for (const { blocks: count, value } of await store.allocation(from, range)) {
        for (let done = 0; value === 0 && done < count; done += copyBlocksMax) {
          const target = Buffer.alloc(Math.min(copyBlocksMax, count - done) * blockBytes);
          await store.read(from, { target, first: first + done });
          await to.write([target], first + done);
        }
        if (value === 2) await to.zero(first, count, "zero");
        first += count;
      }
    }
  }
}

/** Whether the tip has something that it had not when the other was frozen. */
async function isWritten(tip: Point, hidden: Point): Promise<boolean> {
  const withData: number[] = [];
  await eachOwnChunk(tip.map, hidden.map, {
    first: 0,
    end: Math.ceil(tip.sizeBytes / (chunkBlocks * blockBytes)),
    visit: (index, chunk) => {
      if (chunk.hasMapped(0, chunkBlocks)) withData.push(index);
    },
  });
  // What is left of a chunk in which other objects were wiped was not written.
  for (const index of withData) {
    let found = false;
    await eachOwnBlocks(tip.map, hidden.map, {
      first: index,
      end: index + 1,
      visit: (_index, chunk) => {
        for (let slot = 0; slot < chunkBlocks; slot++) {
          found ||= chunk.hasMapped(slot, 1) && !chunk.isShared(slot, 1);
        }
      },
    });
    if (found) return true;
  }
  return false;
}

/** Whether the hidden point has these objects as the tip has them. */
async function isUnchanged(what: {
  hidden: Point;
  tip: Point;
  entry: Vid;
  objects: readonly number[];
}): Promise<boolean> {
  const { hidden, tip, entry, objects } = what;
  let isSame = true;
  for (const { start, length } of runsOf(objects, entry, tip.sizeBytes)) {
    const { first, count } = blocksOf(start, length);
    const end = first + count;
    await eachOwnBlocks(tip.map, hidden.map, {
      first: Math.floor(first / chunkBlocks),
      end: Math.ceil(end / chunkBlocks),
      visit: (index, chunk) => {
        // A neighbour in the chunk may have been wiped by the request before.
        const from = Math.max(first, index * chunkBlocks);
        const to = Math.min(end, (index + 1) * chunkBlocks);
        isSame &&= chunk.isShared(from - index * chunkBlocks, to - from);
      },
    });
  }
  return isSame;
}

/** Objects side by side as ranges of bytes, by ascending number. */
function runsOf(
  objects: readonly number[],
  entry: Vid,
  sizeBytes: number,
): { start: number; length: number }[] {
  const size = objectBytes(entry);
  const runs: { start: number; length: number }[] = [];
  for (const index of objects) {
    const start = index * size;
    const length = Math.min(size, sizeBytes - start);
    const last = runs.at(-1);
    if (last !== undefined && last.start + last.length === start) last.length += length;
    else runs.push({ start, length });
  }
  return runs;
}
