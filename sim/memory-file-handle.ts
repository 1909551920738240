import type { Completion } from "../src/base/completion.ts";
import { KelpieError } from "../src/base/errors.ts";
import type { FileHandle } from "../src/host/files.ts";
import { fileError, type MemoryDisk } from "./memory-disk.ts";
import {
  type BeforeOperation,
  type Fault,
  type FileOperation,
  faultError,
  type MemoryFaults,
} from "./memory-faults.ts";
import type { MemoryFile } from "./memory-file.ts";

export interface MemoryFileHandleComponents {
  path: string;
  file: MemoryFile;
  writable: boolean;
  disk: MemoryDisk;
  faults: MemoryFaults;
  before: BeforeOperation;
  after: BeforeOperation;
  /** Throws "closed" once the machine has crashed. */
  assertAlive: () => void;
}

export class MemoryFileHandle implements FileHandle {
  readonly path: string;
  readonly #parts: MemoryFileHandleComponents;
  /** What `before` holds back; `close` waits for it. */
  readonly #held = new Set<Promise<void>>();
  #closing: Promise<void> | undefined;

  constructor(components: MemoryFileHandleComponents) {
    this.path = components.path;
    this.#parts = components;
  }

  tryRead(target: Uint8Array, position: number): boolean {
    const { file, faults } = this.#parts;
    this.#assertOpen();
    // A fault that waits for a read must meet it there.
    if (faults.isArmedFor("read") || position + target.byteLength > file.sizeBytes) return false;
    const { held } = this.#enter("tryRead");
    if (held !== undefined) return false;
    file.read(target, position);
    return true;
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    const fault = await this.#pass("read");
    const count = this.#parts.file.read(target, position);
    await this.#answer("read", fault);
    return count;
  }

  write(chunks: readonly Uint8Array[], position: number): Completion<void> {
    if (!this.#parts.writable) throw fileError("io", this.path, "it is open for reading");
    const { fault, held } = this.#enter("write");
    const write = (): Completion<void> => {
      this.#write(chunks, position, fault);
      return this.#late("write");
    };
    return held === undefined ? write() : held.then(write);
  }

  async sync(): Promise<void> {
    const { file } = this.#parts;
    this.#assertOpen();
    const point = file.beginSync();
    const { fault, held } = this.#enter("sync");
    if (held !== undefined) await held;
    this.#parts.assertAlive();
    if (fault !== undefined && fault.isDone !== true) {
      file.failSync(point, fault.isEvicted);
      throw faultError(fault, this.path);
    }
    file.endSync(point);
    await this.#answer("sync", fault);
  }

  async truncate(sizeBytes: number): Promise<void> {
    if (!this.#parts.writable) throw fileError("io", this.path, "it is open for reading");
    const fault = await this.#pass("truncate");
    this.#parts.disk.truncate(this.#parts.file, sizeBytes);
    await this.#answer("truncate", fault);
  }

  async size(): Promise<number> {
    await this.#pass("size");
    return this.#parts.file.sizeBytes;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#held);
    this.#parts.assertAlive();
    const event = { operation: "close", path: this.path } as const;
    const fault = this.#parts.faults.meet(event);
    await this.#parts.before(event);
    this.#parts.assertAlive();
    this.#parts.disk.handleClosed(this.#parts.file);
    // As in Linux, the descriptor is gone even if close fails.
    if (fault !== undefined) throw faultError(fault, this.path);
  }

  #write(chunks: readonly Uint8Array[], position: number, fault: Fault | undefined): void {
    this.#parts.assertAlive();
    const { disk, file } = this.#parts;
    let left = fault === undefined ? Number.POSITIVE_INFINITY : (fault.writtenBytes ?? 0);
    let at = position;
    for (const chunk of chunks) {
      const part = chunk.subarray(0, left);
      disk.write(file, part, at);
      at += part.byteLength;
      left -= part.byteLength;
    }
    if (fault !== undefined) throw faultError(fault, this.path);
  }

  /** Counts the operation and asks `before`, which may hold it. */
  #enter(operation: FileOperation): { fault: Fault | undefined; held: Promise<void> | undefined } {
    this.#assertOpen();
    const event = { operation, path: this.path };
    const fault = this.#parts.faults.meet(event);
    const held = this.#parts.before(event);
    this.#parts.assertAlive();
    if (!(held instanceof Promise)) return { fault, held: undefined };
    this.#held.add(held);
    const forget = (): boolean => this.#held.delete(held);
    held.then(forget, forget);
    return { fault, held };
  }

  /** Gives the fault with which it fails although it is done. */
  async #pass(operation: FileOperation): Promise<Fault | undefined> {
    const { fault, held } = this.#enter(operation);
    if (held !== undefined) await held;
    this.#parts.assertAlive();
    if (fault !== undefined && fault.isDone !== true) throw faultError(fault, this.path);
    return fault;
  }

  async #answer(operation: FileOperation, fault: Fault | undefined): Promise<void> {
    const late = this.#late(operation);
    if (late !== undefined) await late;
    if (fault !== undefined) throw faultError(fault, this.path);
  }

  /** What keeps the answer back of what is done. */
  #late(operation: FileOperation): Promise<void> | undefined {
    const late = this.#parts.after({ operation, path: this.path });
    if (!(late instanceof Promise)) return undefined;
    return late.then(() => this.#parts.assertAlive());
  }

  #assertOpen(): void {
    this.#parts.assertAlive();
    if (this.#closing === undefined) return;
    throw new KelpieError("closed", `${this.path}: the file is closed`);
  }
}
