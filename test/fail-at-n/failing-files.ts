import type { FileOperation } from "../../sim/memory-faults.ts";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import type { Completion } from "../../src/base/completion.ts";
import { KelpieError } from "../../src/base/errors.ts";
import type { FileHandle, Files, OpenMode } from "../../src/host/files.ts";

/** How a host call fails. */
export type FaultMode =
  /** EIO, and nothing was done. */
  | "io"
  /** ENOSPC, and nothing was done. */
  | "no space"
  /** EIO, and half of the bytes are written. */
  | "half written"
  /** EIO, but all of it was done. */
  | "answer lost"
  /** EIO, as of every call that follows until `disarm`, but closing. */
  | "broken from here"
  /** ENOSPC, as of every call that follows and takes space until `disarm`. */
  | "full from here";

const enlarging = new Set<FileOperation>(["write", "link", "rename", "makeDirectory", "sync"]);
const changing = new Set<FileOperation>([
  "write",
  "link",
  "rename",
  "remove",
  "makeDirectory",
  "truncate",
  "syncDirectory",
]);

/** The ways in which an operation can fail; a file that is opened may have to be created. */
export function modesOf(call: HostCall): FaultMode[] {
  const { operation, creates } = call;
  const modes: FaultMode[] = ["io"];
  if (takesSpace(call)) modes.push("no space", "full from here");
  if (creates || changing.has(operation)) modes.push("broken from here");
  if (operation === "write") modes.push("half written");
  if (creates || changing.has(operation)) modes.push("answer lost");
  return modes;
}

function takesSpace({ operation, creates }: HostCall): boolean {
  return creates || enlarging.has(operation);
}

export interface HostCall {
  operation: FileOperation;
  path: string;
  creates: boolean;
}

/** Files over `MemoryFiles` of which one call fails: the n-th after `arm`. */
export class FailingFiles implements Files {
  readonly #files: MemoryFiles;
  #countdown = 0;
  #mode: FaultMode = "io";
  /** The fault is one that stays. */
  #isStuck = false;
  #listen: ((call: HostCall) => void) | undefined;
  /** The call that failed. */
  failed: HostCall | undefined;

  constructor(files: MemoryFiles) {
    this.#files = files;
  }

  arm(n: number, mode: FaultMode): void {
    this.#countdown = n;
    this.#mode = mode;
    this.failed = undefined;
  }

  disarm(): void {
    this.#countdown = 0;
    this.#isStuck = false;
    this.#listen = undefined;
    this.#files.clearFaults();
  }

  listen(listen: (call: HostCall) => void): void {
    this.#listen = listen;
  }

  open(path: string, mode: OpenMode): Promise<FileHandle> {
    const call: HostCall = { operation: "open", path, creates: mode.access === "create" };
    return this.#run(call, async () => {
      const handle = await this.#files.open(path, mode);
      return new FailingHandle(handle, (operation, action) =>
        this.#run({ operation, path, creates: false }, action),
      );
    });
  }

  readFile(path: string) {
    return this.#call("readFile", path, () => this.#files.readFile(path));
  }

  list(path: string) {
    return this.#call("list", path, () => this.#files.list(path));
  }

  stat(path: string) {
    return this.#call("stat", path, () => this.#files.stat(path));
  }

  makeDirectory(path: string) {
    return this.#call("makeDirectory", path, () => this.#files.makeDirectory(path));
  }

  link(from: string, to: string) {
    return this.#call("link", to, () => this.#files.link(from, to));
  }

  rename(from: string, to: string) {
    return this.#call("rename", to, () => this.#files.rename(from, to));
  }

  remove(path: string) {
    return this.#call("remove", path, () => this.#files.remove(path));
  }

  syncDirectory(path: string) {
    return this.#call("syncDirectory", path, () => this.#files.syncDirectory(path));
  }

  space(path: string) {
    return this.#call("space", path, () => this.#files.space(path));
  }

  lock(path: string) {
    return this.#call("lock", path, () => this.#files.lock(path));
  }

  #call<T>(operation: FileOperation, path: string, action: () => Promise<T>): Promise<T> {
    return this.#run({ operation, path, creates: false }, async () => action()) as Promise<T>;
  }

  /** Lets the call pass, or makes it fail if it is its turn. Never throws. */
  #run<R extends Completion<unknown>>(call: HostCall, action: () => R): R {
    this.#listen?.(call);
    if (!this.#isTurnOf(call)) return action();
    this.failed ??= call;
    const { operation, path } = call;
    const code = /no space|full/.test(this.#mode) ? "no-space" : "io";
    if (this.#mode !== "answer lost" || operation === "write") {
      // The files in memory know best what a failed sync drops, or a failed write leaves.
      const writtenBytes = { "half written": 2300, "answer lost": Infinity }[this.#mode as string];
      this.#files.fail({ operation, code, writtenBytes: writtenBytes ?? 0 });
      return action();
    }
    const lost = async (): Promise<never> => {
      await action();
      throw new KelpieError(code, `${operation} ${path}: the answer was lost`);
    };
    return lost() as Completion<never> as R;
  }

  #isTurnOf(call: HostCall): boolean {
    if (this.#isStuck) {
      if (call.operation === "close" || call.operation === "lock") return false;
      return this.#mode === "broken from here" || takesSpace(call);
    }
    if (this.#countdown === 0 || --this.#countdown > 0) return false;
    this.#isStuck = this.#mode === "broken from here" || this.#mode === "full from here";
    return true;
  }
}

type Run = <R extends Completion<unknown>>(operation: FileOperation, action: () => R) => R;

class FailingHandle implements FileHandle {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #run: Run;

  constructor(handle: FileHandle, run: Run) {
    this.path = handle.path;
    this.#handle = handle;
    this.#run = run;
  }

  /** Reads go the longer way, on which they can fail. */
  tryRead(): boolean {
    return false;
  }

  read(target: Uint8Array, position: number): Promise<number> {
    return this.#run("read", () => this.#handle.read(target, position));
  }

  write(chunks: readonly Uint8Array[], position: number): Completion<void> {
    return this.#run("write", () => this.#handle.write(chunks, position));
  }

  sync(): Promise<void> {
    return this.#run("sync", () => this.#handle.sync());
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#run("truncate", () => this.#handle.truncate(sizeBytes));
  }

  size(): Promise<number> {
    return this.#run("size", () => this.#handle.size());
  }

  close(): Promise<void> {
    return this.#run("close", () => this.#handle.close());
  }
}
