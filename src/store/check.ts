import { crc32 } from "node:zlib";
import { isKelpieError, messageOf } from "../base/errors.ts";
import { unitBytes } from "./formats/batch.ts";
import { chunkBlocks } from "./formats/map-node.ts";
import { segmentKey } from "./keys.ts";
import { type Chunk, crcsAt, positionsAt, type Root } from "./map/nodes.ts";
import { PointMap } from "./map/point-map.ts";
import type { Point } from "./point.ts";
import { eachDifference } from "./purge.ts";
import { blockBytes } from "./read-blocks.ts";
import { firstSegmentId, type Segment } from "./segment.ts";
import type { Store } from "./store.ts";
import { strangers } from "./strangers.ts";

export interface StoreFinding {
  /** damage: data that cannot be read; leak: space that nothing needs; note: for information. */
  severity: "damage" | "leak" | "note";
  object: string;
  message: string;
}

export interface CheckOptions {
  repair: boolean;
  progress?: ((progress: { doneBytes: number; totalBytes: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** What to call a point in messages. */
  describe?: (point: Point) => string;
}

/** Beyond this many the rest is counted only. */
const findingsMax = 1000;

/**
 * Reads every map and every block that some point holds, compares checksums and counts, and looks for
 * files that nothing names. Disks may be used meanwhile.
 */
export function checkStore(
  store: Store,
  options: CheckOptions,
): Promise<{ checkedBytes: number; findings: StoreFinding[] }> {
  return store.exclusively(async () => {
    // Segments of deleted points may be gone already, and the checkpoint that says so lost in a crash.
    await purgeIfReadable(store);
    const check = new Check(store, options);
    await check.points();
    check.counts();
    await check.strangers();
    return { checkedBytes: check.checkedBytes, findings: check.findings };
  });
}

async function purgeIfReadable(store: Store): Promise<void> {
  try {
    await store.purgeDeleted();
  } catch (error) {
    // A map that cannot be read is a finding of the check itself.
    if (!isKelpieError(error)) throw error;
  }
}

interface Captured {
  point: Point;
  root: Root;
  parentRoot: Root | undefined;
}

class Check {
  readonly #store: Store;
  readonly #options: CheckOptions;
  readonly #captured: Captured[];
  readonly #liveBefore = new Map<Segment, number>();
  readonly #counted = new Map<Segment, number>();
  readonly findings: StoreFinding[] = [];
  readonly #totalBytes: number;
  checkedBytes = 0;
  #isWhole = true;
  #lastBlock: (BlockFinding & { end: number; finding: StoreFinding }) | undefined;

  constructor(store: Store, options: CheckOptions) {
    this.#store = store;
    this.#options = options;
    // All in one turn, so that counts and maps are of the same moment.
    this.#captured = [...store.state.points.values()].map((point) => ({
      point,
      root: point.map.share(),
      parentRoot: point.parent?.map.share(),
    }));
    for (const segment of store.state.segments.values())
      this.#liveBefore.set(segment, segment.live);
    this.#totalBytes = store.cleaner.totals().liveBytes;
  }

  async points(): Promise<void> {
    const { nodes } = this.#store.state;
    for (const { point, root, parentRoot } of this.#captured) {
      const map = new PointMap(nodes, root);
      const parent = new PointMap(nodes, parentRoot);
      try {
        const chunks: { chunk: Chunk; index: number }[] = [];
        await eachDifference(map, [parent], (chunk, _, index) => {
          chunks.push({ chunk, index });
        });
        for (const { index } of chunks) {
          const chunk = await map.load(index);
          if (chunk !== undefined) await this.#chunk(point, chunk, index);
          if (this.#options.signal?.aborted === true) return;
        }
      } catch (error) {
        this.#isWhole = false;
        this.#find("damage", this.#nameOf(point), `its map cannot be read: ${messageOf(error)}`);
      }
    }
  }

  /** Live counts choose what is cleaned: a wrong one wastes space or work. */
  counts(): void {
    if (!this.#isWhole || this.#options.signal?.aborted === true) return;
    for (const [segment, live] of this.#liveBefore) {
      const counted = this.#counted.get(segment) ?? 0;
      if (counted === live) continue;
      const key = segmentKey(segment.log, segment.number, segment.generation);
      this.#find("leak", key, `${counted} blocks of it are needed, but ${live} count as needed`);
      if (this.#options.repair) segment.live += counted - live;
    }
  }

  async strangers(): Promise<void> {
    for (const key of await strangers(this.#store)) {
      this.#find("leak", key, "nothing needs it");
      if (this.#options.repair) await this.#store.backend.delete(key);
    }
  }

  async #chunk(point: Point, chunk: Chunk, index: number): Promise<void> {
    const words = (chunk.words as Uint32Array).slice();
    const { state } = this.#store;
    const block = Buffer.allocUnsafe(blockBytes);
    for (let slot = 0; slot < chunkBlocks; slot++) {
      const id = words[slot] as number;
      if (id < firstSegmentId) continue;
      const segment = state.segments.get(id);
      const number = index * chunkBlocks + slot;
      if (segment === undefined) {
        this.#find("damage", this.#nameOf(point), `block ${number}: its segment is not known`);
        continue;
      }
      if (segment.ownerOf() !== point) continue;
      this.#counted.set(segment, (this.#counted.get(segment) ?? 0) + 1);
      const position = words[positionsAt + slot] as number;
      const why = await this.#readBlock(
        { segment, position, crc: words[crcsAt + slot] as number },
        block,
      );
      if (why !== undefined) {
        const key = segmentKey(segment.log, segment.number, segment.generation);
        const at = position * unitBytes;
        this.#findBlock({ object: key, disk: this.#nameOf(point), block: number, at, why });
      }
      this.checkedBytes += blockBytes;
    }
    this.#options.progress?.({ doneBytes: this.checkedBytes, totalBytes: this.#totalBytes });
  }

  async #readBlock(
    at: { segment: Segment; position: number; crc: number },
    block: Buffer,
  ): Promise<string | undefined> {
    try {
      await this.#store.reader.read(at.segment, at.position, block);
    } catch (error) {
      return messageOf(error);
    }
    return crc32(block) === at.crc ? undefined : "its checksum does not match";
  }

  /** A run of damaged blocks is one finding: a missing segment has thousands. */
  #findBlock(found: BlockFinding): void {
    const last = this.#lastBlock;
    const goesOn =
      last !== undefined &&
      last.object === found.object &&
      last.disk === found.disk &&
      last.why === found.why &&
      last.end === found.block;
    if (goesOn) {
      last.end++;
      const { disk, block, end, at, why } = last;
      last.finding.message = `blocks ${block} to ${end - 1} of ${disk}, from ${at}: ${why}`;
      return;
    }
    const { object, disk, block, at, why } = found;
    const message = `block ${block} of ${disk}, at ${at}: ${why}`;
    const finding = this.#find("damage", object, message);
    this.#lastBlock =
      finding === undefined ? undefined : { ...found, end: found.block + 1, finding };
  }

  #nameOf(point: Point): string {
    return this.#options.describe?.(point) ?? `point ${point.id}`;
  }

  #find(
    severity: StoreFinding["severity"],
    object: string,
    message: string,
  ): StoreFinding | undefined {
    if (this.findings.length > findingsMax) return undefined;
    const isLast = this.findings.length === findingsMax;
    const finding: StoreFinding = isLast
      ? { severity: "note", object: "store", message: "and more" }
      : { severity, object, message };
    this.findings.push(finding);
    return isLast ? undefined : finding;
  }
}

interface BlockFinding {
  object: string;
  /** The disk and point, for people. */
  disk: string;
  block: number;
  /** Where it was written in its segment, in bytes. */
  at: number;
  why: string;
}
