import { isKelpieError, KelpieError } from "../../base/errors.ts";
import type { Backend, ObjectReader } from "../backend/backend.ts";
import { bodyIndexBytes, decodeBodyIndex, findItem, mapBodyKind } from "../formats/body.ts";
import { frameHeaderBytes } from "../formats/frame.ts";
import { objectOfReference, offsetOfReference } from "../formats/map-node.ts";
import { mapKey, mapsPrefix, parseNumbered } from "../keys.ts";
import { closeQuietly } from "../segment-reader.ts";
import type { MapReader } from "./map-nodes.ts";

/** A map object on the backend. */
export interface MapObject {
  number: number;
  generation: number;
  bytes: number;
}

/** Objects kept open. */
const openMax = 512;
/** Nodes this close together are read at once. */
const gapBytesMax = 4096;

interface Open {
  handle: ObjectReader;
  /** Of a cleaned body: place (offset / 8), offset in the body / 8, length, zero. */
  index: Uint32Array | undefined;
  users: number;
  closed: boolean;
}

/** The map objects of a store, and reading nodes from them. */
export class MapObjects implements MapReader {
  readonly #backend: Backend;
  readonly byNumber = new Map<number, MapObject>();
  readonly #open = new Map<number, Promise<Open>>();
  reads = 0;

  constructor(components: { backend: Backend }) {
    this.#backend = components.backend;
  }

  get totalBytes(): number {
    let bytes = 0;
    for (const object of this.byNumber.values()) bytes += object.bytes;
    return bytes;
  }

  async read(references: readonly number[], lengthMax: number): Promise<Buffer[]> {
    const byObject = new Map<number, number[]>();
    references.forEach((reference, at) => {
      const object = objectOfReference(reference);
      const list = byObject.get(object);
      if (list === undefined) byObject.set(object, [at]);
      else list.push(at);
    });
    const nodes = new Array<Buffer>(references.length);
    for (const [object, list] of byObject) {
      const open = await this.#opened(object);
      open.users++;
      try {
        const wanted = list.map((at) => ({
          at,
          offset: placeOf(open, references[at] as number),
        }));
        await this.#readFrom(open, wanted, { lengthMax, nodes });
      } finally {
        open.users--;
        if (open.closed && open.users === 0) closeQuietly(open.handle);
      }
    }
    return nodes;
  }

  /** The object has another body now, or is gone. */
  forget(object: number): void {
    const opening = this.#open.get(object);
    this.#open.delete(object);
    void opening?.then(release, () => {});
  }

  async close(): Promise<void> {
    for (const object of [...this.#open.keys()]) this.forget(object);
  }

  async #readFrom(
    open: Open,
    wanted: { at: number; offset: number }[],
    into: { lengthMax: number; nodes: Buffer[] },
  ): Promise<void> {
    wanted.sort((a, b) => a.offset - b.offset);
    for (let first = 0; first < wanted.length; ) {
      const start = (wanted[first] as { offset: number }).offset;
      let end = start + into.lengthMax;
      let last = first;
      for (let next = first + 1; next < wanted.length; next++) {
        const { offset } = wanted[next] as { offset: number };
        if (offset > end + gapBytesMax) break;
        end = offset + into.lengthMax;
        last = next;
      }
      const bytes = Buffer.allocUnsafe(end - start);
      this.reads++;
      const isThere = open.handle.tryRead(bytes, start);
      const read = isThere ? bytes.length : await open.handle.read(bytes, start);
      for (let index = first; index <= last; index++) {
        const { at, offset } = wanted[index] as { at: number; offset: number };
        into.nodes[at] = bytes.subarray(
          offset - start,
          Math.min(read, offset - start + into.lengthMax),
        );
      }
      first = last + 1;
    }
  }

  #opened(object: number): Promise<Open> {
    const found = this.#open.get(object);
    if (found !== undefined) return found;
    const opening = this.#openObject(object);
    this.#open.set(object, opening);
    opening.catch(() => this.#open.delete(object));
    if (this.#open.size > openMax) {
      const [oldest] = this.#open.keys();
      if (oldest !== undefined && oldest !== object) this.forget(oldest);
    }
    return opening;
  }

  async #openObject(number: number): Promise<Open> {
    const object = this.byNumber.get(number);
    if (object === undefined) {
      throw new KelpieError("corrupt", `a map names ${mapKey(number)}, which is not known`);
    }
    const handle = await this.#openFile(object);
    const index = object.generation === 0 ? undefined : await readIndex(handle, object);
    return { handle, index, users: 0, closed: false };
  }

  async #openFile(object: MapObject): Promise<ObjectReader> {
    const key = mapKey(object.number, object.generation);
    try {
      return await this.#backend.open(key);
    } catch (error) {
      if (!isKelpieError(error, "not-found")) throw error;
      // It may have been cleaned after the checkpoint that named the body looked for.
      const newest = await newestGeneration(this.#backend, object.number);
      if (newest === undefined || newest <= object.generation) {
        throw new KelpieError("io", `${key} is missing`, { cause: error });
      }
      object.generation = newest;
      return this.#openFile(object);
    }
  }
}

function release(open: Open): void {
  open.closed = true;
  if (open.users === 0) closeQuietly(open.handle);
}

function placeOf(open: Open, reference: number): number {
  const offset = offsetOfReference(reference);
  if (open.index === undefined) return offset;
  const item = findItem(open.index, offset / 8);
  if (item < 0) throw new KelpieError("corrupt", `a cleaned map object lacks a node at ${offset}`);
  return (open.index[item * 4 + 1] as number) * 8;
}

async function readIndex(handle: ObjectReader, object: MapObject): Promise<Uint32Array> {
  const start = Buffer.alloc(frameHeaderBytes);
  await handle.read(start, 0);
  const bytes = Buffer.allocUnsafe(Math.min(bodyIndexBytes(start), await handle.size()));
  await handle.read(bytes, 0);
  return decodeBodyIndex(mapBodyKind, bytes, mapKey(object.number, object.generation)).words;
}

async function newestGeneration(backend: Backend, number: number): Promise<number | undefined> {
  const keys = await backend.list(mapKey(number));
  const generations = keys
    .map((key) => parseNumbered(mapsPrefix, key))
    .filter((parsed) => parsed?.number === number)
    .map((parsed) => parsed?.generation ?? 0);
  return generations.length === 0 ? undefined : Math.max(...generations);
}
