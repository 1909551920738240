import { lengthOf } from "../base/bytes.ts";
import type { Completion } from "../base/completion.ts";
import { isPending, settled } from "../base/completion.ts";
import type { KelpieError } from "../base/errors.ts";
import { RangeLock } from "../base/range-lock.ts";
import {
  type BlockDevice,
  blockBytes,
  type Extent,
  type ExtentQuery,
  type WriteOptions,
  type ZeroOptions,
} from "../block/block-device.ts";
import type { RequestLimiter } from "../block/request-limiter.ts";
import type { Tip } from "../store/tip.ts";
import { Admission } from "./admission.ts";
import { blocksOf, readBytes } from "./byte-ranges.ts";
import type { History } from "./history.ts";
import type { Quotas } from "./quotas.ts";

/** A working VDI as a device. There is one for each open disk, whatever the number of its clients. */
export class Volume implements BlockDevice {
  readonly readOnly = false;
  readonly name: string;
  readonly tip: Tip;
  readonly admission = new Admission();
  /** In front of requests that name a vid, which must not be answered by another point than the vid's. */
  readonly vidDoor = new Admission();
  /** Lets requests in front of the doors, at the disk's rate. None for what is not a disk of its own. */
  readonly limiter: RequestLimiter | undefined;
  readonly #quotas: Quotas | undefined;
  readonly #history: History;
  /** Held by writes of parts of blocks, which read and write the whole block. */
  readonly #partial = new RangeLock();
  /** Read and written since it was opened: how far somebody is who goes through it. */
  transferredBytes = 0;
  #gone: KelpieError | undefined;

  constructor(
    settings: { name: string },
    components: { tip: Tip; history: History; limiter?: RequestLimiter; quotas?: Quotas },
  ) {
    this.name = settings.name;
    this.tip = components.tip;
    this.limiter = components.limiter;
    this.#quotas = components.quotas;
    this.#history = components.history;
  }

  get sizeBytes(): number {
    return this.tip.point.sizeBytes;
  }

  /** The disk was deleted: whoever still holds the device gets this. */
  retire(error: KelpieError): void {
    this.#gone = error;
  }

  read(target: Uint8Array, offset: number): Completion<void> {
    this.transferredBytes += target.length;
    return this.#limited(target.length, () => {
      return readBytes((blocks, first) => this.tip.read(blocks, first), target, offset);
    });
  }

  write(
    chunks: readonly Uint8Array[],
    offset: number,
    options: WriteOptions = {},
  ): Completion<void> {
    const length = this.limiter?.limits === undefined ? 0 : lengthOf(chunks);
    return this.#limited(length, () => this.#durably(this.#write(chunks, offset), options));
  }

  zero(offset: number, length: number, options: ZeroOptions = {}): Completion<void> {
    const kind = options.keepAllocated === true ? "zero" : "hole";
    return this.#limited(0, () => this.#durably(this.#zero(offset, length, kind), options));
  }

  /** Whole blocks only: what is left of a block at either end stays as it is. */
  trim(offset: number, length: number, options: WriteOptions = {}): Completion<void> {
    return this.#limited(0, () => {
      const start = Math.ceil(offset / blockBytes) * blockBytes;
      // The last block of a disk may be a part of one.
      const end = offset + length === this.sizeBytes ? this.#endOfBlocks : offset + length;
      const wholeEnd = Math.floor(end / blockBytes) * blockBytes;
      if (start >= wholeEnd) return this.#durably(undefined, options);
      return this.#durably(this.#zeroBlocks(start, wholeEnd - start, "hole"), options);
    });
  }

  flush(): Completion<void> {
    return this.#admit(() => this.tip.flush());
  }

  cache(offset: number, length: number): Completion<void> {
    return this.#admit(() => this.#history.loadMaps(this.tip.point, offset, length));
  }

  extents(query: ExtentQuery): Promise<Extent[]> {
    const found = this.#admit(() => this.#history.extents(this.tip.point, this.name, query));
    return Promise.resolve(found);
  }

  async changeBases(): Promise<string[]> {
    return this.#history.changeBases(this.name);
  }

  /**
   * Runs `action` while nobody else writes in the range, and what was being written there is in the
   * map.
   */
  exclusively(
    range: { offset: number; length: number },
    action: (tip: Tip, blocks: { first: number; count: number }) => Promise<void>,
  ): Completion<void> {
    const blocks = blocksOf(range.offset, range.length);
    return this.#admit(() =>
      this.#holding({ ...blocks, mode: "exclusive" }, async () => {
        await (await this.tip.openLog()).drained();
        await action(this.tip, blocks);
      }),
    );
  }

  /** Makes a hole of all from the end of the disk to `untilBytes`, durably. */
  async forgetBeyondEnd(untilBytes: number): Promise<void> {
    const last = Math.floor(this.sizeBytes / blockBytes);
    await this.#holding({ first: last, count: 1, mode: "exclusive" }, async () => {
      await this.tip.log?.drained();
      await this.tip.forgetBeyondEnd(untilBytes);
      await this.tip.flush();
    });
  }

  /**
   * At the disk's rate, if it has one. What waits for it is not under way: a rollback does not wait for it. A
   * flush has nothing to wait for, because it is for what was answered.
   */
  #limited(bytes: number, request: () => Completion<void>): Completion<void> {
    const wait = this.limiter?.admit(bytes);
    return wait === undefined ? this.#admit(request) : wait.then(() => this.#admit(request));
  }

  #admit<T>(request: () => Completion<T>): Completion<T> {
    return this.admission.run(() => {
      if (this.#gone !== undefined) throw this.#gone;
      return request();
    });
  }

  #durably(done: Completion<void>, options: WriteOptions): Completion<void> {
    if (options.fua !== true) return done;
    return isPending(done) ? done.then(() => this.tip.flush()) : this.tip.flush();
  }

  get #endOfBlocks(): number {
    return Math.ceil(this.sizeBytes / blockBytes) * blockBytes;
  }

  #write(chunks: readonly Uint8Array[], offset: number): Completion<void> {
    const length = lengthOf(chunks);
    this.transferredBytes += length;
    this.#quotas?.admit(this.name, length);
    const { first, count } = blocksOf(offset, length);
    if (offset % blockBytes !== 0 || length % blockBytes !== 0) {
      return this.#writeParts(chunks, offset, length);
    }
    if (this.#partial.count === 0) return this.tip.write(chunks, first);
    return this.#holding({ first, count, mode: "shared" }, () => this.tip.write(chunks, first));
  }

  #zero(offset: number, length: number, kind: "hole" | "zero"): Completion<void> {
    const end = offset + length;
    const start = Math.ceil(offset / blockBytes) * blockBytes;
    const last = end === this.sizeBytes ? this.#endOfBlocks : end;
    const wholeEnd = Math.floor(last / blockBytes) * blockBytes;
    if (start >= wholeEnd) return this.#write([Buffer.alloc(length)], offset);
    const parts = [() => this.#zeroBlocks(start, wholeEnd - start, kind)];
    const write = async (from: number, to: number) => this.#write([Buffer.alloc(to - from)], from);
    if (offset < start) parts.push(() => write(offset, start));
    if (wholeEnd < end) parts.push(() => write(wholeEnd, end));
    // If one fails the others are waited for: a rollback must not come while they are under way.
    return settled(parts.map(async (part) => part()));
  }

  #zeroBlocks(start: number, length: number, kind: "hole" | "zero"): Completion<void> {
    const { first, count } = blocksOf(start, length);
    // Always held: it may take several appends, and a write of a part of a block must not read before
    // one of them and write after it.
    return this.#holding({ first, count, mode: "shared" }, () => this.tip.zero(first, count, kind));
  }

  /** Reads the blocks at the edges, puts the new bytes in, and writes whole blocks. */
  #writeParts(chunks: readonly Uint8Array[], offset: number, length: number): Promise<void> {
    const { first, count } = blocksOf(offset, length);
    return this.#holding({ first, count, mode: "exclusive" }, async () => {
      // Whole blocks that were being written before this came must be in the map first.
      await (await this.tip.openLog()).drained();
      const start = first * blockBytes;
      const end = start + count * blockBytes;
      const head = Buffer.alloc(blockBytes);
      await this.tip.read(head, first);
      let tail = head;
      if (count > 1) {
        tail = Buffer.alloc(blockBytes);
        await this.tip.read(tail, first + count - 1);
      }
      const before = head.subarray(0, offset - start);
      const after = tail.subarray(blockBytes - (end - offset - length));
      await this.tip.write(
        [before, ...chunks, after].filter((part) => part.length > 0),
        first,
      );
    });
  }

  async #holding(
    range: { first: number; count: number; mode: "shared" | "exclusive" },
    action: () => Promise<void>,
  ): Promise<void> {
    const hold = await this.#partial.acquire(range.first, range.first + range.count, range.mode);
    try {
      await action();
    } finally {
      this.#partial.release(hold);
    }
  }
}
