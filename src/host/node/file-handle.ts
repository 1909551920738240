import * as fs from "node:fs";
import { promisify } from "node:util";
import { assert } from "../../base/assert.ts";
import type { Completion } from "../../base/completion.ts";
import { KelpieError } from "../../base/errors.ts";
import type { FileHandle } from "../files.ts";
import { fileError } from "./file-errors.ts";
import { residentRead, residentReadBytesMax } from "./resident-read.ts";

/**
 * Up to this size a write is done at once, on the calling thread: it is a copy into the page cache,
 * and a hop to the thread pool and back costs more than copying this much does.
 */
export const immediateWriteBytesMax = 256 * 1024;

/** Linux takes no more chunks in one writev (IOV_MAX). */
const chunksPerCallMax = 1024;

/** Linux moves at most 0x7ffff000 bytes in one call; Node refuses lengths above 2^31 - 1. */
const bytesPerReadMax = 2 ** 30;

const readFile = promisify(
  (
    fd: number,
    target: Uint8Array,
    range: { offset: number; length: number; position: number },
    done: (error: Error | null, count: number) => void,
  ) => fs.read(fd, target, range.offset, range.length, range.position, done),
);
const writeFile = promisify(
  (
    fd: number,
    chunks: readonly Uint8Array[],
    position: number,
    done: (error: Error | null, count: number) => void,
  ) => fs.writev(fd, chunks, position, done),
);
const syncFile = promisify(fs.fdatasync);
const truncateFile = promisify(fs.ftruncate);
const statFile = promisify(fs.fstat);

/**
 * An open file by its number. A number is given to another file as soon as it is closed, so `close`
 * waits for what is in flight, and nothing starts after it.
 */
export class NodeFileHandle implements FileHandle {
  readonly path: string;
  readonly #fd: number;
  #inFlight = 0;
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #residentRead = residentRead();
  #isInMemory = false;

  constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** What is wrong with the file, if anything is, is for `read` to find out and to say. */
  tryRead(target: Uint8Array, position: number): boolean {
    this.#assertOpen("read");
    if (this.#residentRead === undefined || target.length > residentReadBytesMax) return false;
    const place = { position, mayWait: this.#isInMemory };
    const answer = this.#residentRead(this.#fd, target, place);
    if (answer === "unsupported") this.#readOtherwise();
    return answer === "filled";
  }

  /** The file system cannot say what would wait: in memory nothing does; elsewhere anything may. */
  #readOtherwise(): void {
    if (!this.#isInMemory && isInMemory(this.#fd)) this.#isInMemory = true;
    else this.#residentRead = undefined;
  }

  read(target: Uint8Array, position: number): Promise<number> {
    return this.#run("read", async () => {
      let offset = 0;
      while (offset < target.byteLength) {
        const length = Math.min(target.byteLength - offset, bytesPerReadMax);
        const range = { offset, length, position: position + offset };
        const count = await readFile(this.#fd, target, range);
        if (count === 0) break;
        offset += count;
      }
      return offset;
    });
  }

  write(chunks: readonly Uint8Array[], position: number): Completion<void> {
    let sizeBytes = 0;
    for (const chunk of chunks) sizeBytes += chunk.byteLength;
    if (sizeBytes > immediateWriteBytesMax) {
      return this.#run("write", () => this.#writeOnThread(chunks, position));
    }
    this.#assertOpen("write");
    try {
      this.#writeNow(chunks, position);
    } catch (error) {
      throw fileError("write", this.path, error);
    }
  }

  sync(): Promise<void> {
    return this.#run("sync", () => syncFile(this.#fd));
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#run("truncate", () => truncateFile(this.#fd, sizeBytes));
  }

  size(): Promise<number> {
    return this.#run("stat", async () => (await statFile(this.#fd)).size);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    try {
      fs.closeSync(this.#fd);
    } catch (error) {
      throw fileError("close", this.path, error);
    }
  }

  #writeNow(chunks: readonly Uint8Array[], position: number): void {
    const rest = new Remainder(chunks, position);
    while (!rest.done) rest.advance(fs.writevSync(this.#fd, rest.batch(), rest.position));
  }

  async #writeOnThread(chunks: readonly Uint8Array[], position: number): Promise<void> {
    const rest = new Remainder(chunks, position);
    while (!rest.done) {
      rest.advance(await writeFile(this.#fd, rest.batch(), rest.position));
    }
  }

  async #run<T>(operation: string, action: () => Promise<T>): Promise<T> {
    this.#assertOpen(operation);
    this.#inFlight += 1;
    try {
      return await action();
    } catch (error) {
      throw fileError(operation, this.path, error);
    } finally {
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.#idle?.();
    }
  }

  #assertOpen(operation: string): void {
    if (this.#closing !== undefined) {
      throw new KelpieError("closed", `${operation} ${this.path}: the file is closed`);
    }
  }
}

/** uapi/linux/magic.h */
const tmpfsMagic = 0x01021994;
const ramfsMagic = 0x858458f6;

function isInMemory(fd: number): boolean {
  try {
    // By its number: the name may have been given to another file since.
    const { type } = fs.statfsSync(`/proc/self/fd/${fd}`);
    return type === tmpfsMagic || type === ramfsMagic;
  } catch {
    // No /proc: the thread pool can read it all the same.
    return false;
  }
}

/** What a write has still to do: the system may take less than it was given. */
export class Remainder {
  position: number;
  readonly #chunks: readonly Uint8Array[];
  #index = 0;
  #offset = 0;

  constructor(chunks: readonly Uint8Array[], position: number) {
    this.#chunks = chunks.filter((chunk) => chunk.byteLength > 0);
    this.position = position;
  }

  get done(): boolean {
    return this.#index === this.#chunks.length;
  }

  /** The next chunks for one call. */
  batch(): readonly Uint8Array[] {
    const whole = this.#index === 0 && this.#offset === 0;
    if (whole && this.#chunks.length <= chunksPerCallMax) return this.#chunks;
    const batch = this.#chunks.slice(this.#index, this.#index + chunksPerCallMax);
    const first = batch[0];
    assert(first !== undefined, "a batch is asked for only while something is left");
    batch[0] = first.subarray(this.#offset);
    return batch;
  }

  advance(countBytes: number): void {
    // A write of something that writes nothing and does not fail would never end.
    assert(countBytes > 0, "the system wrote nothing and gave no error");
    this.position += countBytes;
    let left = countBytes + this.#offset;
    let chunk = this.#chunks[this.#index];
    while (chunk !== undefined && left >= chunk.byteLength) {
      left -= chunk.byteLength;
      this.#index += 1;
      chunk = this.#chunks[this.#index];
    }
    this.#offset = left;
  }
}
