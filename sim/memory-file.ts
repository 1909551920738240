import { sectorBytes } from "../src/block/block-device.ts";
import type { Chooser } from "./random.ts";

/**
 * The unit in which contents are held, shared between now and the last sync, and counted as space.
 */
export const pageBytes = 4096;
const sectorsPerPage = pageBytes / sectorBytes;
const allSectors = 2 ** sectorsPerPage - 1;

/**
 * A sector overwritten often between two syncs: this many of its contents may come back, no more.
 */
const olderVersionsMax = 4;

/** What `beginSync` saw: what the sync that is now under way makes durable. */
export interface SyncPoint {
  order: number;
  pages: Map<number, { page: Uint8Array; mask: number }>;
  sizeBytes: number | undefined;
  cutAt: number | undefined;
}

/**
 * The contents of a file, twice: as the running process sees them, and as they are on the disk.
 * What differs is known by sector of 512 bytes: a power failure keeps any of them.
 *
 * Pages are replaced rather than changed once anything else refers to them, so a sync copies
 * nothing.
 */
export class MemoryFile {
  readonly kind = "file";
  /** Names that lead here now, and open handles: at none of either its space is free. */
  links = 0;
  openHandles = 0;
  sizeBytes = 0;
  #pages = new Map<number, Uint8Array>();
  #durablePages = new Map<number, Uint8Array>();
  #durableSizeBytes = 0;
  /** Sectors written and not synced: a bit each, by page. */
  #dirty = new Map<number, number>();
  /**
   * Sectors that a failed sync dropped: they read as written, yet are neither durable nor dirty.
   */
  #lost = new Map<number, number>();
  /** Contents that unsynced sectors had before their latest, by sector. */
  #older = new Map<number, Uint8Array[]>();
  /** The size differs from the durable one and a sync would fix that. */
  #sizeDirty = false;
  /** The lowest size it was cut to since the last sync, if that took durable bytes away. */
  #cutAt: number | undefined;
  #syncsBegun = 0;
  #lastSynced = 0;
  readonly #shared = new WeakSet<Uint8Array>();

  get allocatedBytes(): number {
    return this.#pages.size * pageBytes;
  }

  /** What was written and is not synced, in whole pages; and what a failed sync dropped. */
  get unsyncedBytes(): number {
    return (this.#dirty.size + this.#lost.size) * pageBytes;
  }

  read(target: Uint8Array, position: number): number {
    const end = Math.min(position + target.byteLength, this.sizeBytes);
    let at = position;
    while (at < end) {
      const offset = at % pageBytes;
      const length = Math.min(pageBytes - offset, end - at);
      const page = this.#pages.get((at - offset) / pageBytes);
      if (page === undefined) target.fill(0, at - position, at - position + length);
      else target.set(page.subarray(offset, offset + length), at - position);
      at += length;
    }
    return Math.max(0, at - position);
  }

  /** Pages that writing this range would add. */
  pagesMissing(position: number, length: number): number {
    if (length === 0) return 0;
    let missing = 0;
    const last = Math.floor((position + length - 1) / pageBytes);
    for (let index = Math.floor(position / pageBytes); index <= last; index += 1) {
      if (!this.#pages.has(index)) missing += 1;
    }
    return missing;
  }

  write(bytes: Uint8Array, position: number): void {
    if (bytes.byteLength === 0) return;
    let done = 0;
    while (done < bytes.byteLength) {
      const offset = (position + done) % pageBytes;
      const length = Math.min(pageBytes - offset, bytes.byteLength - done);
      const index = (position + done - offset) / pageBytes;
      this.#soil(index, offset, offset + length);
      this.#ownPage(index).set(bytes.subarray(done, done + length), offset);
      done += length;
    }
    const end = position + bytes.byteLength;
    if (end > this.sizeBytes) this.sizeBytes = end;
    if (end > this.#durableSizeBytes) this.#sizeDirty = true;
  }

  truncate(sizeBytes: number): void {
    if (sizeBytes < this.sizeBytes) this.#cut(sizeBytes);
    this.sizeBytes = sizeBytes;
    this.#sizeDirty = true;
  }

  /** What a sync that starts now covers; later writes do not change it. */
  beginSync(): SyncPoint {
    const pages: SyncPoint["pages"] = new Map();
    for (const [index, mask] of this.#dirty) {
      const page = this.#pages.get(index);
      if (page === undefined) continue;
      this.#shared.add(page);
      pages.set(index, { page, mask });
    }
    const sizeBytes = this.#sizeDirty ? this.sizeBytes : undefined;
    this.#syncsBegun += 1;
    return { order: this.#syncsBegun, pages, sizeBytes, cutAt: this.#cutAt };
  }

  /** DURABLE: all that was written before `beginSync`. */
  endSync(point: SyncPoint): void {
    // A sync that began later has made newer contents durable; these must not replace them.
    if (point.order < this.#lastSynced) return;
    this.#lastSynced = point.order;
    if (point.cutAt !== undefined) dropBehind(this.#durablePages, point.cutAt);
    for (const [index, { page, mask }] of point.pages) {
      const whole = mask === allSectors || this.#lost.get(index) === undefined;
      const old = this.#durablePages.get(index);
      const durable = whole ? page : mergeSectors(old, page, mask);
      this.#shared.add(durable);
      this.#durablePages.set(index, durable);
    }
    if (point.sizeBytes !== undefined) this.#durableSizeBytes = point.sizeBytes;
    this.#cleanPages(point);
    if (point.sizeBytes === this.sizeBytes) this.#sizeDirty = false;
    if (point.cutAt === this.#cutAt) this.#cutAt = undefined;
  }

  /**
   * What Linux does when writing back fails: the error is reported once, the pages count as clean
   * and can be read until they are evicted, and no later sync will write them. A size that grew is
   * fixed only when the data behind it is written; one that was cut is the journal's and stays
   * pending. With `isEvicted` that happens at once: what is on the disk is read from now on.
   */
  failSync(point: SyncPoint, isEvicted = false): void {
    for (const [index, { mask }] of point.pages) {
      this.#lost.set(index, (this.#lost.get(index) ?? 0) | mask);
    }
    this.#cleanPages(point);
    if (isEvicted) this.#evictLost(point);
    if (this.#cutAt === undefined) this.#sizeDirty = false;
  }

  /** Written-to sectors stay: they are dirty. */
  #evictLost(point: SyncPoint): void {
    for (const index of point.pages.keys()) {
      const lost = (this.#lost.get(index) ?? 0) & ~(this.#dirty.get(index) ?? 0);
      if (lost === 0 || !this.#pages.has(index)) continue;
      const durable = this.#durablePages.get(index) ?? new Uint8Array(pageBytes);
      const page = this.#ownPage(index);
      for (let sector = 0; sector < sectorsPerPage; sector += 1) {
        if ((lost & (1 << sector)) === 0) continue;
        const from = sector * sectorBytes;
        page.set(durable.subarray(from, from + sectorBytes), from);
      }
      setOrDelete(this.#lost, index, (this.#lost.get(index) ?? 0) & ~lost);
    }
  }

  /** The file as a power failure leaves it; `undefined` chooses nothing that was not synced. */
  afterPowerLoss(chooser: Chooser | undefined): MemoryFile {
    const left = new MemoryFile();
    for (const [index, page] of this.#durablePages) left.#adopt(index, page);
    left.sizeBytes = this.#durableSizeBytes;
    if (chooser !== undefined) this.#keepSome(left, chooser);
    left.#dropBehindEnd();
    left.#settle();
    return left;
  }

  /**
   * The file as the death of the process leaves it: all is there, and what was not synced is not.
   */
  afterProcessDeath(): MemoryFile {
    const left = new MemoryFile();
    for (const [index, page] of this.#durablePages) {
      left.#durablePages.set(index, page);
      left.#shared.add(page);
    }
    for (const [index, page] of this.#pages) {
      this.#shared.add(page); // this file may live on, too
      left.#adopt(index, page);
    }
    left.sizeBytes = this.sizeBytes;
    left.#durableSizeBytes = this.#durableSizeBytes;
    left.#dirty = new Map(this.#dirty);
    left.#lost = new Map(this.#lost);
    left.#older = new Map(Array.from(this.#older, ([key, versions]) => [key, [...versions]]));
    left.#sizeDirty = this.#sizeDirty;
    left.#cutAt = this.#cutAt;
    return left;
  }

  /** Adds to `left`, which holds what is durable, a choice of what is not. */
  #keepSome(left: MemoryFile, chooser: Chooser): void {
    // A cut happened or it did not; if not, nothing written behind it did either.
    const cutAt = this.#cutAt;
    const cutLost = cutAt !== undefined && chooser.below(2) === 0;
    if (cutAt !== undefined && !cutLost) {
      left.sizeBytes = cutAt;
      left.#dropBehindEnd();
    }
    const limit = cutLost ? cutAt : Number.POSITIVE_INFINITY;
    for (const [index, mask] of this.#dirty) {
      for (let sector = 0; sector < sectorsPerPage; sector += 1) {
        if ((mask & (1 << sector)) === 0) continue;
        const position = index * pageBytes + sector * sectorBytes;
        if (position >= limit) continue;
        const version = this.#someVersion(position, chooser);
        if (version !== undefined) left.#ownPage(index).set(version, sector * sectorBytes);
      }
    }
    if (this.#sizeDirty && !cutLost) {
      left.sizeBytes = someSize(left.sizeBytes, this.sizeBytes, chooser);
    }
  }

  /**
   * One of the contents of an unsynced sector since the last sync, or undefined for the durable
   * one.
   */
  #someVersion(position: number, chooser: Chooser): Uint8Array | undefined {
    const older = this.#older.get(position) ?? [];
    const choice = chooser.below(2 + older.length);
    if (choice === 0) return undefined;
    if (choice > 1) return older[choice - 2];
    const offset = position % pageBytes;
    return this.#pages.get((position - offset) / pageBytes)?.subarray(offset, offset + sectorBytes);
  }

  /** Marks a range of a page as unsynced, and keeps what was unsynced there before. */
  #soil(index: number, from: number, to: number): void {
    const dirty = this.#dirty.get(index) ?? 0;
    let mask = 0;
    for (let at = from - (from % sectorBytes); at < to; at += sectorBytes) {
      const bit = 1 << (at / sectorBytes);
      if ((dirty & bit) !== 0) this.#keepOlder(index, at);
      mask |= bit;
    }
    this.#dirty.set(index, dirty | mask);
    const lost = this.#lost.get(index);
    if (lost !== undefined) setOrDelete(this.#lost, index, lost & ~mask);
  }

  #keepOlder(index: number, offset: number): void {
    const page = this.#pages.get(index);
    if (page === undefined) return;
    const position = index * pageBytes + offset;
    const versions = this.#older.get(position) ?? [];
    versions.push(page.slice(offset, offset + sectorBytes));
    if (versions.length > olderVersionsMax) versions.shift();
    this.#older.set(position, versions);
  }

  #cut(sizeBytes: number): void {
    const offset = sizeBytes % pageBytes;
    const index = (sizeBytes - offset) / pageBytes;
    if (offset > 0 && this.#pages.has(index)) {
      this.#soil(index, offset, pageBytes);
      this.#ownPage(index).fill(0, offset);
    }
    dropBehind(this.#pages, sizeBytes);
    dropBehind(this.#dirty, sizeBytes);
    dropBehind(this.#lost, sizeBytes);
    for (const position of this.#older.keys()) {
      if (position >= sizeBytes) this.#older.delete(position);
    }
    if (sizeBytes < this.#durableSizeBytes) {
      this.#cutAt = Math.min(sizeBytes, this.#cutAt ?? sizeBytes);
    }
  }

  #cleanPages(point: SyncPoint): void {
    for (const [index, { page, mask }] of point.pages) {
      // What was written since keeps the page dirty; it may now be compared with the newer durable
      // one.
      if (this.#pages.get(index) === page) this.#dirty.delete(index);
      for (let sector = 0; sector < sectorsPerPage; sector += 1) {
        if ((mask & (1 << sector)) === 0) continue;
        this.#older.delete(index * pageBytes + sector * sectorBytes);
      }
    }
  }

  /** The page, safe to change. */
  #ownPage(index: number): Uint8Array {
    const page = this.#pages.get(index);
    if (page !== undefined && !this.#shared.has(page)) return page;
    const own = page === undefined ? new Uint8Array(pageBytes) : page.slice();
    this.#pages.set(index, own);
    return own;
  }

  #adopt(index: number, page: Uint8Array): void {
    this.#pages.set(index, page);
    this.#shared.add(page);
  }

  #dropBehindEnd(): void {
    const offset = this.sizeBytes % pageBytes;
    const index = (this.sizeBytes - offset) / pageBytes;
    dropBehind(this.#pages, this.sizeBytes);
    if (offset > 0 && this.#pages.has(index)) this.#ownPage(index).fill(0, offset);
  }

  /** Makes what is there the durable state. */
  #settle(): void {
    for (const [index, page] of this.#pages) {
      this.#shared.add(page);
      this.#durablePages.set(index, page);
    }
    this.#durableSizeBytes = this.sizeBytes;
  }
}

/** Removes the entries of pages that begin at or after a size; the page it falls into is kept. */
function dropBehind<T>(pages: Map<number, T>, sizeBytes: number): void {
  const first = Math.ceil(sizeBytes / pageBytes);
  for (const index of pages.keys()) if (index >= first) pages.delete(index);
}

function mergeSectors(old: Uint8Array | undefined, page: Uint8Array, mask: number): Uint8Array {
  const merged = old === undefined ? new Uint8Array(pageBytes) : old.slice();
  for (let sector = 0; sector < sectorsPerPage; sector += 1) {
    if ((mask & (1 << sector)) === 0) continue;
    const from = sector * sectorBytes;
    merged.set(page.subarray(from, from + sectorBytes), from);
  }
  return merged;
}

function setOrDelete(map: Map<number, number>, key: number, mask: number): void {
  if (mask === 0) map.delete(key);
  else map.set(key, mask);
}

/** Either size, or one in between, as if the end had been moved in steps of a sector. */
function someSize(durable: number, current: number, chooser: Chooser): number {
  const choice = chooser.below(3);
  if (choice === 0) return durable;
  if (choice === 1) return current;
  const low = Math.min(durable, current);
  const between = low + chooser.below(Math.max(durable, current) - low + 1);
  return Math.min(Math.max(low, between - (between % sectorBytes)), Math.max(durable, current));
}
