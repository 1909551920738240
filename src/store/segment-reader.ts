import type { Completion } from "../base/completion.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Backend, ObjectReader } from "./backend/backend.ts";
import { unitBytes } from "./formats/batch.ts";
import {
  type BodyIndex,
  bodyIndexBytes,
  decodeBodyIndex,
  findItem,
  segmentBodyKind,
} from "./formats/body.ts";
import { frameHeaderBytes } from "./formats/frame.ts";
import { logPrefix, parseNumbered, segmentKey } from "./keys.ts";
import type { Segment } from "./segment.ts";

/** Bodies kept open; enough for 256 GiB in full segments without reopening any. */
const openBodiesMax = 4096;
/** Memory for the indexes of cleaned bodies among them. */
const indexBytesMax = 32 * 1024 * 1024;
const blockBytes = 4096;

interface Body {
  segment: Segment;
  handle: ObjectReader;
  /** Of a cleaned body. */
  index: BodyIndex | undefined;
  /** Reads under way, and those that waited for it to be opened. */
  readers: number;
  closed: boolean;
  /** To be called when nobody reads it any more. */
  whenGone: (() => void)[];
}

/** A body that is being opened, and how many reads wait for it. */
interface Opening {
  body: Promise<Body>;
  readers: number;
}

/** Reads blocks by location, whatever body of the segment holds them now. */
export class SegmentReader {
  readonly #backend: Backend;
  readonly #bodies = new Map<Segment, Body>();
  readonly #opening = new Map<Segment, Opening>();
  /** Not to be read any more, but still being read. */
  readonly #retired = new Set<Body>();
  #indexBytes = 0;
  reads = 0;

  constructor(components: { backend: Backend }) {
    this.#backend = components.backend;
  }

  /**
   * Fills `target`, whole blocks, from blocks that stand side by side from `position` (in units).
   * "not-found": the segment is gone.
   */
  read(segment: Segment, position: number, target: Uint8Array): Completion<void> {
    const body = this.#bodies.get(segment);
    if (body === undefined) return this.#openAndRead(segment, position, target);
    return this.#readFrom(body, position, target);
  }

  /**
   * A cleaned body took the place of the one in use, or the segment is gone: lets go of the old one.
   * Completes when nobody reads it any more.
   */
  async forget(segment: Segment): Promise<void> {
    for (let opening = this.#opening.get(segment); opening !== undefined; ) {
      await opening.body.catch(() => {}); // is for who reads to see
      opening = this.#opening.get(segment);
    }
    const body = this.#bodies.get(segment);
    if (body !== undefined) this.#drop(body);
    for (const retired of [...this.#retired]) {
      if (retired.segment !== segment) continue;
      await new Promise<void>((resolve) => retired.whenGone.push(resolve));
    }
  }

  async close(): Promise<void> {
    for (const body of [...this.#bodies.values()]) this.#drop(body);
  }

  #readFrom(body: Body, position: number, target: Uint8Array): Completion<void> {
    if (body.handle.tryRead(target, offsetOf(body, position))) {
      this.reads++;
      return;
    }
    body.readers++;
    return this.#readOn(body, position, target);
  }

  /** The caller has counted itself among the readers. */
  async #readOn(body: Body, position: number, target: Uint8Array): Promise<void> {
    try {
      this.reads++;
      const read = await body.handle.read(target, offsetOf(body, position));
      if (read !== target.length) throw cutShort(body.segment);
    } finally {
      body.readers--;
      this.#closeIfUnused(body);
    }
  }

  async #openAndRead(segment: Segment, position: number, target: Uint8Array): Promise<void> {
    const opening = this.#opening.get(segment) ?? this.#open(segment);
    opening.readers++;
    const body = await opening.body;
    await this.#readOn(body, position, target);
  }

  #open(segment: Segment): Opening {
    const opening: Opening = { readers: 0, body: this.#openBody(segment) };
    opening.body = opening.body.then(
      (body) => {
        this.#opening.delete(segment);
        // Counted before any of them goes on: nobody may close the file in between.
        body.readers += opening.readers;
        return body;
      },
      (error: unknown) => {
        this.#opening.delete(segment);
        throw error;
      },
    );
    this.#opening.set(segment, opening);
    return opening;
  }

  async #openBody(segment: Segment): Promise<Body> {
    const { handle, generation } = await this.#openFile(segment);
    const { log, number } = segment;
    // Meanwhile the segment may have been cleaned: what was opened is good until it is forgotten.
    const opened = { log, number, generation };
    const index = generation === 0 ? undefined : await indexOrClose(handle, opened);
    const body: Body = {
      segment,
      handle,
      index,
      readers: 0,
      closed: false,
      whenGone: [],
    };
    this.#bodies.set(segment, body);
    this.#indexBytes += index?.words.byteLength ?? 0;
    this.#shrink();
    return body;
  }

  /** The file of the current body. "not-found": there is none. The caller closes it. */
  async openFile(segment: Segment): Promise<ObjectReader> {
    return (await this.#openFile(segment)).handle;
  }

  async #openFile(segment: Segment): Promise<{ handle: ObjectReader; generation: number }> {
    for (;;) {
      const generation = segment.generation;
      const key = segmentKey(segment.log, segment.number, generation);
      try {
        return { handle: await this.#backend.open(key), generation };
      } catch (error) {
        if (!isKelpieError(error, "not-found") || !segment.sealed) throw error;
        // It may have been cleaned after the checkpoint that named the body looked for.
        const newest = await newestGeneration(this.#backend, segment);
        if (newest === undefined || newest <= generation) throw error;
        segment.generation = newest;
      }
    }
  }

  #shrink(): void {
    for (const body of this.#bodies.values()) {
      if (this.#bodies.size <= openBodiesMax && this.#indexBytes <= indexBytesMax) return;
      if (this.#bodies.size === 1) return;
      this.#drop(body);
    }
  }

  #drop(body: Body): void {
    this.#bodies.delete(body.segment);
    this.#indexBytes -= body.index?.words.byteLength ?? 0;
    body.closed = true;
    this.#retired.add(body);
    this.#closeIfUnused(body);
  }

  #closeIfUnused(body: Body): void {
    if (!body.closed || body.readers > 0 || !this.#retired.delete(body)) return;
    closeQuietly(body.handle);
    for (const resolve of body.whenGone) resolve();
  }
}

/** The generations of a segment's bodies on the backend; the highest counts. */
export async function newestGeneration(
  backend: Backend,
  segment: { log: number; number: number },
): Promise<number | undefined> {
  const raw = segmentKey(segment.log, segment.number);
  const prefix = logPrefix(segment.log);
  let newest: number | undefined;
  for (const key of await backend.list(raw)) {
    const parsed = parseNumbered(prefix, key);
    if (parsed?.number !== segment.number) continue;
    if (newest === undefined || parsed.generation > newest) newest = parsed.generation;
  }
  return newest;
}

export async function readBodyIndex(
  handle: ObjectReader,
  segment: { log: number; number: number; generation: number },
): Promise<BodyIndex> {
  const object = segmentKey(segment.log, segment.number, segment.generation);
  const start = Buffer.alloc(frameHeaderBytes);
  await handle.read(start, 0);
  const bytes = Buffer.allocUnsafe(Math.min(bodyIndexBytes(start), await handle.size()));
  await handle.read(bytes, 0);
  return decodeBodyIndex(segmentBodyKind, bytes, object);
}

async function indexOrClose(
  handle: ObjectReader,
  segment: { log: number; number: number; generation: number },
): Promise<BodyIndex> {
  try {
    return await readBodyIndex(handle, segment);
  } catch (error) {
    closeQuietly(handle);
    throw error;
  }
}

/** Nothing was written through it, so a failure to close it costs nobody anything. */
export function closeQuietly(handle: ObjectReader): void {
  handle.close().catch(() => {});
}

/** Where the file of a segment is while it is written, or a spare one. */
export function pathOf(backend: Backend, key: string): string {
  const path = backend.localPath(key);
  if (path === undefined) {
    throw new KelpieError("unsupported", `${key} cannot be written on this machine`);
  }
  return path;
}

function offsetOf(body: Body, position: number): number {
  if (body.index === undefined) return position * unitBytes;
  const item = findItem(body.index.words, position);
  if (item < 0) {
    throw new KelpieError(
      "corrupt",
      `segment ${body.segment.log}/${body.segment.number} has no block at ${position}`,
    );
  }
  return body.index.itemsOffset + item * blockBytes;
}

function cutShort(segment: Segment): KelpieError {
  return new KelpieError("io", `segment ${segment.log}/${segment.number} is cut short`);
}
