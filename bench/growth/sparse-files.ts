import { type Completion, isPending } from "../../src/base/completion.ts";
import type { FileHandle, Files } from "../../src/host/files.ts";

/**
 * Files that leave a hole wherever a chunk of the shared buffer `zeros` is written, and write everything
 * else. A disk of a TiB that is written with that buffer has real headers, summaries, checksums and maps,
 * and takes a few GiB. It is read with ordinary files: a hole reads as the zeros that were written.
 */
export function sparseFiles(files: Files, zeros: ArrayBufferLike): Files {
  return {
    ...files,
    open: async (path, mode) => {
      const handle = await files.open(path, mode);
      // A file that was there before may hold something else where a hole is wanted.
      return mode.access === "create" ? new SparseHandle(handle, zeros) : handle;
    },
  };
}

class SparseHandle implements FileHandle {
  readonly #inner: FileHandle;
  readonly #zeros: ArrayBufferLike;
  /** Up to where the file must reach, if a hole is at its end. */
  #endBytes = 0;

  constructor(inner: FileHandle, zeros: ArrayBufferLike) {
    this.#inner = inner;
    this.#zeros = zeros;
  }

  get path(): string {
    return this.#inner.path;
  }

  tryRead(target: Uint8Array, position: number): boolean {
    return this.#inner.tryRead(target, position);
  }

  read(target: Uint8Array, position: number): Promise<number> {
    return this.#inner.read(target, position);
  }

  write(chunks: readonly Uint8Array[], position: number): Completion<void> {
    const pending: Promise<void>[] = [];
    let at = position;
    for (let first = 0; first < chunks.length; ) {
      const isHole = this.#isHole(chunks[first]);
      const run: Uint8Array[] = [];
      while (first < chunks.length && this.#isHole(chunks[first]) === isHole) {
        run.push(chunks[first++] as Uint8Array);
      }
      const done = isHole ? undefined : this.#inner.write(run, at);
      if (isPending(done)) pending.push(done);
      for (const chunk of run) at += chunk.length;
    }
    this.#endBytes = Math.max(this.#endBytes, at);
    return pending.length === 0 ? undefined : Promise.all(pending).then(() => {});
  }

  async sync(): Promise<void> {
    if ((await this.#inner.size()) < this.#endBytes) await this.#inner.truncate(this.#endBytes);
    await this.#inner.sync();
  }

  truncate(sizeBytes: number): Promise<void> {
    this.#endBytes = Math.min(this.#endBytes, sizeBytes);
    return this.#inner.truncate(sizeBytes);
  }

  size(): Promise<number> {
    return this.#inner.size();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #isHole(chunk: Uint8Array | undefined): boolean {
    return chunk?.buffer === this.#zeros;
  }
}
