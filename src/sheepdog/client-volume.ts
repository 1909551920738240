import { assert } from "../base/assert.ts";
import { lengthOf } from "../base/bytes.ts";
import { isPending, settled } from "../base/completion.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import { writeU64 } from "../base/little-endian.ts";
import { type RangeHold, RangeLock, type RangeLockMode } from "../base/range-lock.ts";
import {
  type BlockDevice,
  type Extent,
  type ExtentQuery,
  sectorBytes,
  type WriteOptions,
  type ZeroOptions,
} from "../block/block-device.ts";
import type { SheepdogClient } from "./client.ts";
import { EntryWriter } from "./client-entry-writer.ts";
import { isRefused } from "./client-errors.ts";
import { pointExtents } from "./client-extents.ts";
import {
  checkHeader,
  objectCount,
  type RemotePoint,
  readEntries,
  readHeader,
  readPoint,
} from "./client-inode.ts";
import { pieceBytesMax, resentMax } from "./client-limits.ts";
import { Lineage } from "./client-lineage.ts";
import {
  dataOid,
  eachOf,
  inPieces,
  type ObjectPart,
  partsOf,
  readParts,
  sliceOf,
} from "./client-objects.ts";
import { result } from "./results.ts";
import { type InodeHeader, inodeFieldAt } from "./wire-inode.ts";
import { inodeOid } from "./wire-oid.ts";
import { dataObjectsMax } from "./wire-opcodes.ts";

export interface RemoteVolumeComponents {
  client: SheepdogClient;
  /** What `changeBases` says. */
  changeBases: () => Promise<string[]>;
  /** The volume has another vid; `frozen` is the one that it had, if that is a snapshot now. */
  moved?: (volume: RemoteVolume, frozen: number | undefined) => Promise<void>;
}

/** Objects that one zero or trim works on at once. */
const zeroedAtOnce = 32;
const zeros = new Uint8Array(2 ** 20);

/**
 * A working VDI of a Sheepdog cluster as a device. Does what the protocol leaves to its clients: makes
 * objects at the first write, as copies of what they share, and writes that down in the inode.
 *
 * When somebody takes a snapshot the vid that is open becomes read-only; writes then go on to the new
 * one. It must be the only client that writes the disk: the map in memory would not learn of others.
 */
export class RemoteVolume implements BlockDevice {
  readonly readOnly = false;
  readonly name: string;
  readonly #client: SheepdogClient;
  readonly #changeBases: () => Promise<string[]>;
  readonly #moved: RemoteVolumeComponents["moved"];
  readonly #writer: EntryWriter;
  /**
   * By index of objects. Shared: reads, and writes to objects that are there. Exclusive: what changes an
   * entry, for as long as it takes.
   */
  readonly #locks = new RangeLock();
  #header: InodeHeader;
  #entries: Uint32Array;
  #lineage: Lineage;
  #following: Promise<void> | undefined;
  /** The server said that it has nothing to flush. */
  #flushes = true;
  #gone: KelpieError | undefined;

  static async open(name: string, components: RemoteVolumeComponents): Promise<RemoteVolume> {
    const { client } = components;
    for (let attempt = 1; ; attempt++) {
      const { vid } = await client.lookup({ name });
      try {
        return new RemoteVolume(await readPoint(client, vid), components);
      } catch (error) {
        // It was rolled back or made anew since the name was looked up.
        if (!isKelpieError(error, "not-found") || attempt >= resentMax) throw error;
      }
    }
  }

  private constructor(point: RemotePoint, components: RemoteVolumeComponents) {
    this.#client = components.client;
    this.#changeBases = components.changeBases;
    this.#moved = components.moved;
    this.name = point.header.name;
    this.#header = point.header;
    this.#entries = point.entries;
    this.#lineage = new Lineage(point.header.parentVid, components);
    this.#writer = new EntryWriter({ name: this.name }, components);
  }

  get sizeBytes(): number {
    return this.#header.sizeBytes - (this.#header.sizeBytes % sectorBytes);
  }

  get vid(): number {
    return this.#header.vid;
  }

  get header(): Readonly<InodeHeader> {
    return this.#header;
  }

  get entries(): Uint32Array {
    return this.#entries;
  }

  get objectBytes(): number {
    return 2 ** this.#header.blockSizeShift;
  }

  /** Whoever still holds the device gets this from now on. */
  retire(error: KelpieError): void {
    this.#gone ??= error;
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    this.#mustBeThere();
    const point = {
      client: this.#client,
      objectBytes: this.objectBytes,
      locks: this.#locks,
      entriesNow: () => this.#entries,
    };
    await readParts(point, target, offset);
  }

  async write(
    chunks: readonly Uint8Array[],
    offset: number,
    options: WriteOptions = {},
  ): Promise<void> {
    this.#mustBeThere();
    const parts = [...partsOf(offset, lengthOf(chunks), this.objectBytes)];
    await settled(
      parts.map((part) =>
        this.#writePart(part, sliceOf(chunks, part.from, part.from + part.length)),
      ),
    );
    if (options.fua === true) await this.flush();
  }

  async zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    this.#mustBeThere();
    const keep = options.keepAllocated === true;
    if (options.fast === true) this.#mustBeFast(offset, length, keep);
    const needed = this.#partsWhere(
      { offset, length },
      ({ index }) => keep || this.#entries[index] !== 0,
    );
    await eachOf(needed, zeroedAtOnce, (part) =>
      !keep && this.#isWhole(part) ? this.#dropObject(part.index) : this.#writeZeros(part),
    );
    if (options.fua === true) await this.flush();
  }

  /** Whole objects only. */
  async trim(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    this.#mustBeThere();
    const whole = this.#partsWhere(
      { offset, length },
      (part) => this.#entries[part.index] !== 0 && this.#isWhole(part),
    );
    await eachOf(whole, zeroedAtOnce, ({ index }) => this.#dropObject(index));
    if (options.fua === true) await this.flush();
  }

  async flush(): Promise<void> {
    this.#mustBeThere();
    if (this.#flushes) this.#flushes = await this.#client.flush(this.vid);
  }

  cache(): void {
    // The protocol has no such hint.
  }

  async extents(query: ExtentQuery): Promise<Extent[]> {
    this.#mustBeThere();
    const { objectBytes } = this;
    const point = { header: this.#header, entries: this.#entries, objectBytes };
    return pointExtents(point, query, { client: this.#client, lineage: this.#lineage });
  }

  changeBases(): Promise<string[]> {
    return this.#changeBases();
  }

  /** Only larger. */
  async resize(sizeBytes: number): Promise<void> {
    if (sizeBytes > dataObjectsMax * this.objectBytes) {
      throw new KelpieError("invalid", `disk "${this.name}" cannot have ${sizeBytes} bytes`, {
        remedy: `with its objects of ${this.objectBytes} bytes it can have 2^20 of them`,
      });
    }
    await this.alone(async () => {
      this.#mustBeThere();
      for (;;) {
        const { vid } = this;
        assert(sizeBytes >= this.#header.sizeBytes, "a remote disk does not shrink");
        const field = new Uint8Array(8);
        writeU64(field, 0, sizeBytes);
        const oid = inodeOid(vid);
        await this.#client.writeObject({ oid, offset: inodeFieldAt.size, chunks: [field] });
        if (await this.#writer.isWorking(vid)) break;
        await this.#follow(vid); // that was the snapshot's inode
      }
      await this.#adoptHeader({ ...this.#header, sizeBytes });
    });
  }

  /** Runs `action` while no request is under way; those that come meanwhile wait. */
  async alone<T>(action: () => Promise<T>): Promise<T> {
    const hold = await this.#locks.acquire(0, dataObjectsMax, "exclusive");
    try {
      return await action();
    } finally {
      this.#locks.release(hold);
    }
  }

  /** A snapshot was taken, alone: the same data under a new vid. */
  async movedTo(vid: number): Promise<void> {
    await this.#adoptHeader(checkHeader(await readHeader(this.#client, vid), vid));
  }

  /** The disk has other data now, and is there again if it was not. Only while alone. */
  async replacedBy(vid: number): Promise<void> {
    const { header, entries } = await readPoint(this.#client, vid);
    this.#header = header;
    this.#entries = entries;
    this.#lineage = new Lineage(header.parentVid, { client: this.#client });
    this.#gone = undefined;
    await this.#moved?.(this, undefined);
  }

  async #writePart(part: ObjectPart, chunks: readonly Uint8Array[]): Promise<void> {
    const { index } = part;
    for (;;) {
      const isOwn = this.#entries[index] === this.vid;
      const done = await this.#holding(index, isOwn ? "shared" : "exclusive", async () => {
        this.#mustBeThere();
        if (this.#entries[index] === this.vid) return this.#writeOwn(part, chunks);
        // It changed while this waited: others may be changing it, too.
        if (isOwn) return false;
        return this.#createOwn(part, chunks);
      });
      if (done) return;
    }
  }

  /** False if a snapshot was taken: then the object is not the working VDI's own any more. */
  async #writeOwn(
    { index, at, length }: ObjectPart,
    chunks: readonly Uint8Array[],
  ): Promise<boolean> {
    const { vid } = this;
    try {
      await inPieces(at, length, (start, end) =>
        this.#client.writeObject({
          oid: dataOid(vid, index),
          offset: start,
          chunks: sliceOf(chunks, start - at, end - at),
          copies: this.#header.copies,
          copyPolicy: this.#header.copyPolicy,
        }),
      );
      return true;
    } catch (error) {
      await this.#followIfReadOnly(vid, error);
      return false;
    }
  }

  /** Makes the object, with the bytes in it, and enters it. False if that must be done again. */
  async #createOwn(part: ObjectPart, chunks: readonly Uint8Array[]): Promise<boolean> {
    const { vid } = this;
    const { index, at } = part;
    const from = this.#entries[index] ?? 0;
    const first = Math.min(part.length, pieceBytesMax);
    try {
      await this.#client.createObject({
        oid: dataOid(vid, index),
        copyFrom: from === 0 ? undefined : dataOid(from, index),
        offset: at,
        chunks: sliceOf(chunks, 0, first),
        copies: this.#header.copies,
        copyPolicy: this.#header.copyPolicy,
      });
    } catch (error) {
      await this.#followIfReadOnly(vid, error);
      return false;
    }
    if (first < part.length) {
      const rest = { ...part, at: at + first, length: part.length - first };
      if (!(await this.#writeOwn(rest, sliceOf(chunks, first, part.length)))) return false;
    }
    const outcome = await this.#writer.write(vid, index, vid);
    // From here on the object is what holds the data, also if the snapshot has it and we must copy it.
    this.#entries[index] = vid;
    if (outcome === "current") return true;
    await this.#follow(vid);
    return false;
  }

  async #dropObject(index: number): Promise<void> {
    let done = false;
    while (!done) {
      done = await this.#holding(index, "exclusive", async () => {
        this.#mustBeThere();
        if (this.#entries[index] === 0) return true;
        const { vid } = this;
        if ((await this.#writer.write(vid, index, 0)) === "current") {
          this.#entries[index] = 0;
          return true;
        }
        await this.#follow(vid);
        // Whether the new working VDI has the old entry depends on which came first.
        const now = await readEntries(this.#client, this.vid, { first: index, count: 1 });
        this.#entries[index] = now[0] ?? 0;
        return false;
      });
    }
  }

  async #writeZeros({ index, at, length }: ObjectPart): Promise<void> {
    for (let done = 0; done < length; done += zeros.length) {
      const count = Math.min(zeros.length, length - done);
      const part = { index, at: at + done, from: 0, length: count };
      await this.#writePart(part, [zeros.subarray(0, count)]);
    }
  }

  #isWhole({ index, at, length }: ObjectPart): boolean {
    return at === 0 && index * this.objectBytes + length === this.#endOfObject(index);
  }

  /** The last object may reach past the end of the disk. */
  #endOfObject(index: number): number {
    return Math.min((index + 1) * this.objectBytes, this.sizeBytes);
  }

  /** Looked at as they are reached: a range may be the whole disk, and most of it holes. */
  *#partsWhere(
    range: { offset: number; length: number },
    isWanted: (part: ObjectPart) => boolean,
  ): Generator<ObjectPart> {
    for (const part of partsOf(range.offset, range.length, this.objectBytes)) {
      if (isWanted(part)) yield part;
    }
  }

  #mustBeFast(offset: number, length: number, keep: boolean): void {
    for (const part of partsOf(offset, length, this.objectBytes)) {
      const isSlow = keep || (this.#entries[part.index] !== 0 && !this.#isWhole(part));
      if (isSlow) throw new KelpieError("unsupported", "zeros would have to be written");
    }
  }

  async #holding<T>(index: number, mode: RangeLockMode, action: () => Promise<T>): Promise<T> {
    const asked = this.#locks.acquire(index, index + 1, mode);
    const hold: RangeHold = isPending(asked) ? await asked : asked;
    try {
      return await action();
    } finally {
      this.#locks.release(hold);
    }
  }

  async #followIfReadOnly(vid: number, error: unknown): Promise<void> {
    if (!isRefused(error, result.readOnly)) throw error;
    await this.#follow(vid, error);
  }

  /** Goes on to the working VDI that took the place of `from`. */
  async #follow(from: number, cause?: unknown): Promise<void> {
    if (this.vid !== from) return; // somebody else did it
    this.#following ??= this.#reload(cause).finally(() => {
      this.#following = undefined;
    });
    await this.#following;
  }

  /** The header only: the map in memory is newer than what the snapshot was copied from. */
  async #reload(cause: unknown): Promise<void> {
    const { vid } = await this.#client.lookup({ name: this.name });
    if (vid === this.vid) {
      throw new KelpieError("read-only", `disk "${this.name}" is read-only on the server`, {
        cause,
        remedy: "another disk was made from it; take a snapshot of it, and it can be written again",
      });
    }
    const header = checkHeader(await readHeader(this.#client, vid), vid);
    const lineage = new Lineage(header.parentVid, { client: this.#client });
    if ((await lineage.distanceTo(this.vid)) === undefined) {
      this.retire(
        new KelpieError("io", `disk "${this.name}" was rolled back or replaced by another client`, {
          remedy: "open it again",
        }),
      );
      this.#mustBeThere();
    }
    await this.#adoptHeader(header);
  }

  async #adoptHeader(header: InodeHeader): Promise<void> {
    const from = this.vid;
    // First: what cannot be locked now is asked for again with the next request that is refused.
    if (header.vid !== from) await this.#moved?.(this, from);
    const count = objectCount(header);
    const known = Math.min(this.#entries.length, objectCount(this.#header));
    let entries = this.#entries;
    if (count > entries.length) {
      entries = new Uint32Array(count);
      const added = { first: known, count: count - known };
      entries.set(await readEntries(this.#client, header.vid, added), known);
      entries.set(this.#entries.subarray(0, known)); // last, because requests went on
    }
    if (header.vid !== from) {
      this.#lineage = new Lineage(header.parentVid, { client: this.#client });
    }
    this.#entries = entries;
    this.#header = header;
  }

  #mustBeThere(): void {
    if (this.#gone !== undefined) throw this.#gone;
  }
}
