import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { Log } from "../host/log.ts";
import type { Backend, ObjectReader } from "./backend/backend.ts";
import { batchSeed, entryKind, entryOfWords, unitBytes } from "./formats/batch.ts";
import { encodeBodyIndex, segmentBodyKind } from "./formats/body.ts";
import { chunkBlocks } from "./formats/map-node.ts";
import { segmentKey } from "./keys.ts";
import { readSeal, readSegmentHeader, scanBatches } from "./log/segment-scan.ts";
import type { SpareFiles } from "./log/spare-files.ts";
import { positionsAt } from "./map/nodes.ts";
import { blockBytes } from "./read-blocks.ts";
import type { Segment } from "./segment.ts";
import { readBodyIndex, type SegmentReader } from "./segment-reader.ts";
import type { StoreState } from "./state.ts";

/** A written block: where it stands, which block of the disk it is, and its checksum. */
export interface WrittenBlock {
  position: number;
  block: number;
  crc: number;
}

export interface CleanerComponents {
  state: StoreState;
  backend: Backend;
  reader: SegmentReader;
  /** Whether recovery would still read the segment as it was written. */
  needsForReplay: (log: number, segment: number) => boolean;
  /** Makes everything durable that has been overwritten so far. */
  flushLogs: () => Promise<void>;
  spares: SpareFiles;
  log: Log;
}

/** A segment is not worth rewriting for less dead space than this share of it. */
const deadShareMin = 0.12;

/**
 * Returns the space of dead blocks: rewrites a segment without them, or removes it. Locations stay as they
 * are, so that no map changes and nobody waits.
 *
 * A block is dead when the owner of its segment no longer maps it. Counts choose the segment; what goes
 * is decided by looking each block up.
 */
export class Cleaner {
  readonly #components: CleanerComponents;
  cleaned = 0;
  freedBytes = 0;

  constructor(components: CleanerComponents) {
    this.#components = components;
  }

  /** Bytes of all segments, and of the blocks in them that some point maps. */
  totals(): { usedBytes: number; liveBytes: number } {
    let usedBytes = 0;
    let liveBytes = 0;
    for (const segment of this.#components.state.segments.values()) {
      usedBytes += segment.bytes;
      liveBytes += segment.live * blockBytes;
    }
    return { usedBytes, liveBytes };
  }

  /** The segment with the largest dead share, if it is worth it. */
  next(): Segment | undefined {
    let best: Segment | undefined;
    let bestShare = deadShareMin;
    for (const segment of this.#components.state.segments.values()) {
      if (!segment.sealed || segment.missing) continue;
      const share = 1 - (segment.live * blockBytes) / Math.max(1, segment.bytes);
      if (share <= bestShare && segment.live > 0) continue;
      if (this.#components.needsForReplay(segment.log, segment.number)) continue;
      if (segment.live === 0) return segment;
      best = segment;
      bestShare = share;
    }
    return best;
  }

  /** Segments of which nothing lives; they cost nothing to remove. */
  *dead(): Generator<Segment> {
    for (const segment of this.#components.state.segments.values()) {
      const { live, sealed, missing, log, number } = segment;
      if (live === 0 && sealed && !missing && !this.#components.needsForReplay(log, number))
        yield segment;
    }
  }

  async clean(segment: Segment): Promise<void> {
    const { state, reader, flushLogs } = this.#components;
    const before = segment.bytes;
    const live = await this.#liveBlocks(segment);
    if (live === undefined) return;
    const old = segment.generation;
    // Durability: what overwrote the dead blocks must not be lost once they are gone.
    await flushLogs();
    if (live.length > 0) await this.#rewrite(segment, live);
    else state.segments.remove(segment);
    await reader.forget(segment);
    await this.#remove(segmentKey(segment.log, segment.number, old), before);
    this.cleaned++;
    this.freedBytes += before - (live.length === 0 ? 0 : segment.bytes);
  }

  /** Nobody has it open. */
  async #remove(key: string, sizeBytes: number): Promise<void> {
    const { backend, spares } = this.#components;
    const path = backend.localPath(key);
    if (path === undefined || !spares.isWanted(sizeBytes)) return backend.delete(key);
    try {
      await spares.keep(path);
    } catch {
      // It may have been gone before; whatever it was, the next says so too if it matters.
      await backend.delete(key);
    }
  }

  /** Undefined if its file is gone, or damaged, though something in it is needed: it stays as it is. */
  async #liveBlocks(segment: Segment): Promise<WrittenBlock[] | undefined> {
    let handle: ObjectReader;
    try {
      handle = await this.#components.reader.openFile(segment);
    } catch (error) {
      if (!isKelpieError(error, "not-found")) throw error;
      // It was removed as dead, and a crash came before the checkpoint that says so.
      if (segment.live === 0) return [];
      segment.missing = true;
      return undefined;
    }
    try {
      const written = await this.#writtenIn(segment, handle);
      if (written === undefined) return undefined;
      const live: WrittenBlock[] = [];
      for (const block of written) if (await this.#isLive(segment, block)) live.push(block);
      live.sort((a, b) => a.position - b.position);
      // What was overwritten since it was looked up has been counted already: once more, in one turn.
      segment.live = live.filter((block) => this.#lookUp(segment, block) !== false).length;
      return live;
    } finally {
      await handle.close();
    }
  }

  /** Undefined if damage hides what it holds: it stays as it is, and other segments have their turn. */
  async #writtenIn(segment: Segment, handle: ObjectReader): Promise<WrittenBlock[] | undefined> {
    try {
      return await writtenBlocks(handle, segment);
    } catch (error) {
      if (!isKelpieError(error, "corrupt")) throw error;
      this.#components.log.error("a segment cannot be cleaned", { error: messageOf(error) });
      segment.missing = true;
      return undefined;
    }
  }

  async #isLive(segment: Segment, written: WrittenBlock): Promise<boolean> {
    let isLive = this.#lookUp(segment, written);
    while (isLive === "absent") {
      await segment.ownerOf().map.load(Math.floor(written.block / chunkBlocks));
      isLive = this.#lookUp(segment, written);
    }
    return isLive;
  }

  /** "absent" if the map is not in memory there: then it has not changed since it was. */
  #lookUp(segment: Segment, written: WrittenBlock): boolean | "absent" {
    const { map } = segment.ownerOf();
    const chunk = map.lookup(Math.floor(written.block / chunkBlocks));
    if (chunk === "absent") return chunk;
    const slot = written.block % chunkBlocks;
    const words = chunk?.words;
    return words?.[slot] === segment.id && words[positionsAt + slot] === written.position;
  }

  async #rewrite(segment: Segment, live: WrittenBlock[]): Promise<void> {
    const { backend, reader, spares } = this.#components;
    const words = new Uint32Array(live.length * 4);
    const blocks: Uint8Array[] = [];
    for (let first = 0; first < live.length; ) {
      const start = live[first] as WrittenBlock;
      let count = 1;
      while (live[first + count]?.position === start.position + count * 8) count++;
      const bytes = Buffer.allocUnsafe(count * blockBytes);
      // A damaged block is copied as it is: its checksum in the map goes on telling.
      await reader.read(segment, start.position, bytes);
      blocks.push(bytes);
      first += count;
    }
    live.forEach(({ position, block, crc }, at) => {
      words.set([position, crc, block >>> 0, Math.floor(block / 0x100000000)], at * 4);
    });
    const { log, number } = segment;
    for (let generation = segment.generation + 1; ; generation++) {
      const index = encodeBodyIndex(segmentBodyKind, { log, number, generation, words });
      const key = segmentKey(log, number, generation);
      const outcome = await backend.putIfAbsent(key, [...index, ...blocks], {
        takeSpare: (path) => spares.takeForBody(path),
      });
      // Left over from a clean that a crash cut off: it is removed with the next one.
      if (outcome === "exists") continue;
      if (outcome === "unknown") throw new KelpieError("io", `${key} could not be created`);
      segment.generation = generation;
      segment.bodyBlocks = live.length;
      segment.bytes = sum([...index, ...blocks]);
      return;
    }
  }
}

/** What the current body of a segment holds, dead or alive. */
export async function writtenBlocks(
  handle: ObjectReader,
  segment: Segment,
): Promise<WrittenBlock[]> {
  if (segment.generation > 0) {
    const { words } = await readBodyIndex(handle, segment);
    return Array.from({ length: words.length / 4 }, (_, at) => ({
      position: words[at * 4] as number,
      crc: words[at * 4 + 1] as number,
      block: (words[at * 4 + 2] as number) + (words[at * 4 + 3] as number) * 0x100000000,
    }));
  }
  // Nothing in it counts; after a failed sync even its header may not be there.
  if (segment.endUnits <= 1) return [];
  const { entries, crcs } = await rawSummary(handle, segment);
  const blocks: WrittenBlock[] = [];
  let crcAt = 0;
  for (let index = 0; index < entries.length / 4; index++) {
    const entry = entryOfWords(entries, index);
    if (entry.kind !== entryKind.data) continue;
    for (let offset = 0; offset < entry.count; offset++) {
      const crc = crcs[crcAt++] as number;
      blocks.push({ position: entry.position + offset * 8, block: entry.block + offset, crc });
    }
  }
  return blocks;
}

async function rawSummary(handle: ObjectReader, segment: Segment) {
  const name = { log: segment.log, segment: segment.number };
  const seal = await readSeal(handle, name);
  if (seal?.endUnits === segment.endUnits) return seal.summary;
  const header = await readSegmentHeader(handle);
  const key = segmentKey(segment.log, segment.number);
  if (header === undefined) throw new KelpieError("corrupt", `${key} has no valid header`);
  const scan = await scanBatches(handle, {
    ...name,
    seed: batchSeed(header.storeId),
    units: 1,
    previous: header.crc,
    verifyFromUnits: Number.POSITIVE_INFINITY,
    limitUnits: segment.endUnits,
  });
  if (scan.endUnits !== segment.endUnits) {
    const at = scan.endUnits * unitBytes;
    throw new KelpieError("corrupt", `${key} cannot be read beyond byte ${at}`);
  }
  return scan.summary;
}

function sum(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((bytes, chunk) => bytes + chunk.length, 0);
}
