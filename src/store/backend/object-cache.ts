import { isKelpieError } from "../../base/errors.ts";
import type { FileHandle, Files } from "../../host/files.ts";
import { decodeCachePiece, encodeCachePiece } from "../formats/cache-piece.ts";
import type { ByteRange, ObjectReader } from "./backend.ts";
import type { CacheBudget, Evictable } from "./cache-budget.ts";

/** Where pieces come from that are not there. */
export interface PieceSource {
  getPart(key: string, range: ByteRange): Promise<{ bytes: Uint8Array; totalBytes: number }>;
  /** "not-found" if there is no such object. */
  sizeOf(key: string): Promise<number>;
}

export interface ObjectCacheSettings {
  directory: string;
  /** What is fetched and kept at once. */
  pieceBytes?: number;
}

/**
 * 256 KiB from an object store take hardly longer than 4 KiB, and a guest that boots asks for most of
 * what is near to what it asked for.
 */
const defaultPieceBytes = 256 * 1024;
/** One request fetches up to this many, when they are asked for, or read ahead. */
const fetchPiecesMax = 16;
/** Files of pieces kept open. */
const openFilesMax = 1024;

/** An object of which pieces are here, or are asked for. */
interface CachedObject {
  key: string;
  totalBytes: number | undefined;
  pieces: Map<number, Piece>;
  fetching: Map<number, Promise<Uint8Array>>;
  readers: number;
  isDropped: boolean;
  /** The piece that was read last, and how many were read in a row up to it. */
  lastPiece: number;
  streak: number;
}

/**
 * Parts of immutable objects, by object, in files of this machine. It survives restarts: what a file
 * holds is checked when it is first used. Those who miss the same piece share one request.
 */
export class ObjectCache {
  readonly #directory: string;
  readonly #pieceBytes: number;
  readonly #files: Files;
  readonly #budget: CacheBudget;
  readonly #source: PieceSource;
  readonly #objects = new Map<string, CachedObject>();
  readonly #open = new Set<Piece>();
  #temporaries = 0;
  hits = 0;
  misses = 0;

  constructor(
    settings: ObjectCacheSettings,
    components: { files: Files; budget: CacheBudget; source: PieceSource },
  ) {
    this.#directory = settings.directory;
    this.#pieceBytes = settings.pieceBytes ?? defaultPieceBytes;
    this.#files = components.files;
    this.#budget = components.budget;
    this.#source = components.source;
  }

  /** Finds what an earlier process left. Sizes are not asked for: a piece counts as a full one. */
  async load(): Promise<void> {
    await this.#files.makeDirectory(this.#directory);
    for (const name of await this.#files.list(this.#directory)) {
      const parsed = parseName(name, this.#pieceBytes);
      if (parsed === undefined) await this.#files.remove(`${this.#directory}/${name}`);
      else this.#addPiece(this.#object(parsed.key), parsed.index, this.#pieceBytes);
    }
    await this.#budget.shrink();
  }

  /** "not-found" if there is no such object. */
  async open(key: string): Promise<ObjectReader> {
    const object = this.#object(key);
    object.readers++;
    try {
      object.totalBytes ??= await this.#sizeOf(object);
    } catch (error) {
      this.#letGo(object);
      throw error;
    }
    let isClosed = false;
    return {
      tryRead: (target, position) => this.#tryRead(object, target, position),
      read: (target, position) => this.#read(object, target, position),
      size: async () => object.totalBytes ?? (await this.#sizeOf(object)),
      close: async () => {
        if (!isClosed) this.#letGo(object);
        isClosed = true;
      },
    };
  }

  /** The object is about to be removed. */
  async drop(key: string): Promise<void> {
    const object = this.#objects.get(key);
    if (object === undefined) return;
    object.isDropped = true;
    this.#objects.delete(key);
    for (const piece of [...object.pieces.values()]) {
      this.#budget.remove(piece);
      await this.#evict(piece);
    }
  }

  async close(): Promise<void> {
    for (const piece of [...this.#open]) await this.#closeFile(piece);
  }

  #object(key: string): CachedObject {
    const found = this.#objects.get(key);
    if (found !== undefined) return found;
    const object: CachedObject = {
      key,
      totalBytes: undefined,
      pieces: new Map(),
      fetching: new Map(),
      readers: 0,
      isDropped: false,
      lastPiece: -1,
      streak: 0,
    };
    this.#objects.set(key, object);
    return object;
  }

  /** A piece knows it. What has pieces is there, too: they go before the object does. */
  async #sizeOf(object: CachedObject): Promise<number> {
    const [piece] = object.pieces.values();
    if (piece !== undefined) await this.#file(piece);
    return object.totalBytes ?? (await this.#source.sizeOf(object.key));
  }

  #letGo(object: CachedObject): void {
    object.readers--;
    const isUsed = object.readers > 0 || object.pieces.size > 0 || object.fetching.size > 0;
    if (!isUsed && !object.isDropped) this.#objects.delete(object.key);
  }

  #tryRead(object: CachedObject, target: Uint8Array, position: number): boolean {
    const index = Math.floor(position / this.#pieceBytes);
    const offset = position - index * this.#pieceBytes;
    const handle = object.pieces.get(index)?.handle;
    if (handle === undefined || offset + target.length > this.#pieceBytes) return false;
    if (position + target.length > (object.totalBytes ?? 0)) return false;
    if (!handle.tryRead(target, offset)) return false;
    (object.pieces.get(index) as Piece).used = true;
    this.hits++;
    if (index !== object.lastPiece) this.#follow(object, index);
    return true;
  }

  async #read(object: CachedObject, target: Uint8Array, position: number): Promise<number> {
    const size = this.#pieceBytes;
    const total = object.totalBytes ?? Number.POSITIVE_INFINITY;
    const end = Math.min(position + target.length, total);
    if (end <= position) return 0;
    const first = Math.floor(position / size);
    const last = Math.floor((end - 1) / size);
    this.#fetchMissing(object, first, last);
    let done = 0;
    for (let index = first; index <= last; index++) {
      const offset = position + done - index * size;
      const length = Math.min(size - offset, end - position - done);
      const read = await this.#readPiece(object, index, {
        target: target.subarray(done, done + length),
        offset,
      });
      done += read;
      if (read < length) break;
    }
    this.#follow(object, last);
    return done;
  }

  async #readPiece(
    object: CachedObject,
    index: number,
    want: { target: Uint8Array; offset: number },
  ): Promise<number> {
    const { target, offset } = want;
    const piece = object.pieces.get(index);
    if (piece !== undefined) {
      piece.users++;
      try {
        const handle = await this.#file(piece);
        const room = (object.totalBytes ?? 0) - index * this.#pieceBytes - offset;
        const length = Math.max(0, Math.min(target.length, room));
        if (
          handle !== undefined &&
          (await handle.read(target.subarray(0, length), offset)) === length
        ) {
          piece.used = true;
          this.hits++;
          return length;
        }
      } finally {
        piece.users--;
      }
      // The file was not what it should be: it goes, and the object store has the bytes.
      this.#budget.remove(piece);
      await this.#evict(piece);
    }
    this.#fetchMissing(object, index, index);
    const bytes = (await object.fetching.get(index)) ?? (await this.#fetchOnce(object, index));
    const part = bytes.subarray(offset, offset + target.length);
    target.set(part);
    return part.length;
  }

  /** Nobody was fetching it any more: it came, and went again at once. */
  async #fetchOnce(object: CachedObject, index: number): Promise<Uint8Array> {
    const range = { offset: index * this.#pieceBytes, length: this.#pieceBytes };
    return (await this.#source.getPart(object.key, range)).bytes;
  }

  /** Begins a request for each run of pieces that are neither here nor on their way. */
  #fetchMissing(object: CachedObject, first: number, last: number): void {
    let from: number | undefined;
    for (let index = first; index <= last + 1; index++) {
      const isMissing = index <= last && !object.pieces.has(index) && !object.fetching.has(index);
      const isLong = from !== undefined && index - from >= fetchPiecesMax;
      if (from !== undefined && (!isMissing || isLong)) {
        this.#request(object, from, index - 1);
        from = undefined;
      }
      if (isMissing) from ??= index;
    }
  }

  #request(object: CachedObject, first: number, last: number): void {
    this.misses++;
    const size = this.#pieceBytes;
    const range = { offset: first * size, length: (last - first + 1) * size };
    const fetched = this.#source.getPart(object.key, range);
    for (let index = first; index <= last; index++) {
      const piece = fetched
        .then(async ({ bytes, totalBytes }) => {
          object.totalBytes = totalBytes;
          const at = (index - first) * size;
          const data = bytes.subarray(at, at + size);
          if (data.length > 0) await this.#keep(object, index, data);
          return data;
        })
        .finally(() => object.fetching.delete(index));
      // Whoever waits for it is told; what was read ahead is nobody's.
      piece.catch(() => {});
      object.fetching.set(index, piece);
    }
  }

  /** A cache that cannot be written is slow and no failure. */
  async #keep(object: CachedObject, index: number, data: Uint8Array): Promise<void> {
    if (object.isDropped || object.pieces.has(index)) return;
    const name = nameOf(object.key, index, this.#pieceBytes);
    const temporary = `${this.#directory}/${++this.#temporaries}.new`;
    try {
      const handle = await this.#files.open(temporary, { access: "create" });
      try {
        await handle.write(encodeCachePiece(name, data, object.totalBytes ?? 0), 0);
        await this.#files.rename(temporary, `${this.#directory}/${name}`);
      } catch (error) {
        await handle.close();
        throw error;
      }
      if (object.isDropped || object.pieces.has(index)) return await handle.close();
      const piece = this.#addPiece(object, index, data.length);
      this.#opened(piece, handle);
      await this.#budget.shrink();
    } catch {
      await this.#files.remove(temporary).catch(() => {}); // or when the cache is next opened
    }
  }

  #addPiece(object: CachedObject, index: number, bytes: number): Piece {
    const name = nameOf(object.key, index, this.#pieceBytes);
    const piece = new Piece({ object, index, bytes, name }, (gone) => this.#evict(gone));
    object.pieces.set(index, piece);
    this.#budget.add(piece);
    return piece;
  }

  /** Undefined if it is not what it should be. */
  async #file(piece: Piece): Promise<FileHandle | undefined> {
    if (piece.handle !== undefined) return piece.handle;
    piece.opening ??= this.#openFile(piece).finally(() => {
      piece.opening = undefined;
    });
    return await piece.opening;
  }

  async #openFile(piece: Piece): Promise<FileHandle | undefined> {
    const path = `${this.#directory}/${piece.name}`;
    try {
      const handle = await this.#files.open(path, { access: "read" });
      const whole = Buffer.allocUnsafe(await handle.size());
      const read = await handle.read(whole, 0);
      const decoded = decodeCachePiece(piece.name, whole.subarray(0, read));
      if (decoded === undefined) {
        await handle.close();
        return undefined;
      }
      piece.object.totalBytes ??= decoded.totalBytes;
      this.#opened(piece, handle);
      return handle;
    } catch (error) {
      if (isKelpieError(error)) return undefined;
      throw error;
    }
  }

  #opened(piece: Piece, handle: FileHandle): void {
    piece.handle = handle;
    this.#open.add(piece);
    if (this.#open.size <= openFilesMax) return;
    for (const other of this.#open) {
      if (other.users > 0 || other === piece) continue;
      void this.#closeFile(other);
      return;
    }
  }

  async #closeFile(piece: Piece): Promise<void> {
    const { handle } = piece;
    piece.handle = undefined;
    this.#open.delete(piece);
    await handle?.close().catch(() => {}); // it was only read
  }

  async #evict(piece: Piece): Promise<void> {
    const { object, index } = piece;
    if (object.pieces.get(index) === piece) object.pieces.delete(index);
    // What somebody reads of it goes on being there until its last handle is closed.
    await this.#files.remove(`${this.#directory}/${piece.name}`).catch(() => {}); // gone already
    await this.#closeFile(piece);
  }

  /** A piece was read: when it is the next one again and again, what comes after it is fetched. */
  #follow(object: CachedObject, index: number): void {
    if (index === object.lastPiece) return;
    object.streak = index === object.lastPiece + 1 ? object.streak + 1 : 0;
    object.lastPiece = index;
    if (object.streak < 2 || object.totalBytes === undefined) return;
    const lastOfAll = Math.ceil(object.totalBytes / this.#pieceBytes) - 1;
    const ahead = Math.min(object.streak, fetchPiecesMax);
    // Half of it may be used up before the next request: many small ones would cost more.
    if (object.pieces.has(Math.min(index + Math.ceil(ahead / 2), lastOfAll))) return;
    this.#fetchMissing(object, index + 1, Math.min(index + ahead, lastOfAll));
  }
}

class Piece implements Evictable {
  readonly object: CachedObject;
  readonly index: number;
  readonly bytes: number;
  readonly name: string;
  readonly #evict: (piece: Piece) => Promise<void>;
  used = false;
  users = 0;
  handle: FileHandle | undefined;
  opening: Promise<FileHandle | undefined> | undefined;

  constructor(
    parts: { object: CachedObject; index: number; bytes: number; name: string },
    evict: (piece: Piece) => Promise<void>,
  ) {
    this.object = parts.object;
    this.index = parts.index;
    this.bytes = parts.bytes;
    this.name = parts.name;
    this.#evict = evict;
  }

  get isBusy(): boolean {
    return this.users > 0;
  }

  evict(): Promise<void> {
    return this.#evict(this);
  }
}

/** "logs_0a_01.00000002@262144-3": key, size of a piece, number of the piece. */
function nameOf(key: string, index: number, pieceBytes: number): string {
  return `${key.replaceAll("/", "_")}@${pieceBytes}-${index}`;
}

function parseName(name: string, pieceBytes: number): { key: string; index: number } | undefined {
  const match = /^([0-9a-z._-]+)@(\d+)-(\d+)$/.exec(name);
  if (match?.[1] === undefined || Number(match[2]) !== pieceBytes) return undefined;
  return { key: match[1].replaceAll("_", "/"), index: Number(match[3]) };
}
