import type { Completion } from "../base/completion.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { FileHandle, Files } from "../host/files.ts";
import type { Backend } from "./backend/backend.ts";
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
  generation: number;
  handle: FileHandle;
  /** Of a cleaned body. */
  index: BodyIndex | undefined;
  readers: number;
  closed: boolean;
}

/** Reads blocks by location, whatever body of the segment holds them now. */
export class SegmentReader {
  readonly #files: Files;
  readonly #backend: Backend;
  readonly #bodies = new Map<Segment, Body>();
  readonly #opening = new Map<Segment, Promise<Body>>();
  #indexBytes = 0;
  reads = 0;

  constructor(components: { files: Files; backend: Backend }) {
    this.#files = components.files;
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

  /** A cleaned body took the place of the one in use, or the segment is gone: let go of the old one. */
  forget(segment: Segment): void {
    const body = this.#bodies.get(segment);
    if (body !== undefined) this.#drop(body);
  }

  async close(): Promise<void> {
    for (const body of [...this.#bodies.values()]) this.#drop(body);
  }

  #readFrom(body: Body, position: number, target: Uint8Array): Completion<void> {
    const offset = offsetOf(body, position);
    this.reads++;
    if (body.handle.tryRead(target, offset)) return;
    body.readers++;
    return body.handle
      .read(target, offset)
      .then((read) => {
        if (read !== target.length) throw cutShort(body.segment);
      })
      .finally(() => {
        body.readers--;
        if (body.closed && body.readers === 0) closeQuietly(body.handle);
      });
  }

  async #openAndRead(segment: Segment, position: number, target: Uint8Array): Promise<void> {
    await this.#readFrom(await this.#open(segment), position, target);
  }

  #open(segment: Segment): Promise<Body> {
    const already = this.#opening.get(segment);
    if (already !== undefined) return already;
    const opening = this.#openBody(segment).finally(() => this.#opening.delete(segment));
    this.#opening.set(segment, opening);
    return opening;
  }

  async #openBody(segment: Segment): Promise<Body> {
    const handle = await this.openFile(segment);
    const index = segment.generation === 0 ? undefined : await readBodyIndex(handle, segment);
    const body: Body = {
      segment,
      generation: segment.generation,
      handle,
      index,
      readers: 0,
      closed: false,
    };
    this.#bodies.set(segment, body);
    this.#indexBytes += index?.words.byteLength ?? 0;
    this.#shrink();
    return body;
  }

  /** The file of the current body. "not-found": there is none. The caller closes it. */
  async openFile(segment: Segment): Promise<FileHandle> {
    for (;;) {
      const generation = segment.generation;
      const key = segmentKey(segment.log, segment.number, generation);
      try {
        return await this.#files.open(pathOf(this.#backend, key), { access: "read" });
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
    if (body.readers === 0) closeQuietly(body.handle);
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

export async function readBodyIndex(handle: FileHandle, segment: Segment): Promise<BodyIndex> {
  const object = segmentKey(segment.log, segment.number, segment.generation);
  const start = Buffer.alloc(frameHeaderBytes);
  await handle.read(start, 0);
  const bytes = Buffer.allocUnsafe(Math.min(bodyIndexBytes(start), await handle.size()));
  await handle.read(bytes, 0);
  return decodeBodyIndex(segmentBodyKind, bytes, object);
}

/** Nothing was written through it, so a failure to close it costs nobody anything. */
export function closeQuietly(handle: FileHandle): void {
  handle.close().catch(() => {});
}

export function pathOf(backend: Backend, key: string): string {
  const path = backend.localPath(key);
  if (path === undefined) {
    throw new KelpieError("unsupported", `${key} is not a file on this machine`);
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
