import { type ErrorCode, KelpieError } from "../src/base/errors.ts";

/** The operations of `Files` and `FileHandle` by name. */
export type FileOperation =
  | "open"
  | "readFile"
  | "list"
  | "stat"
  | "makeDirectory"
  | "link"
  | "rename"
  | "remove"
  | "syncDirectory"
  | "space"
  | "lock"
  | "tryRead"
  | "read"
  | "write"
  | "sync"
  | "truncate"
  | "size"
  | "close";

export interface OperationEvent {
  operation: FileOperation;
  /** The path as it was given; of a link or rename, the new name. */
  path: string;
}

/**
 * Called before an operation takes effect. It may count, throw, or crash the disk, in which case
 * the operation does nothing and fails; one that returns a promise holds the operation until it
 * resolves.
 */
export type BeforeOperation = (event: OperationEvent) => void | Promise<void>;

export interface Fault {
  operation: FileOperation;
  /** Which operation of the kind fails, counted from now; 1, the next one, by default. */
  nth?: number;
  /** How many in a row fail; 1 by default. */
  times?: number;
  /** "io" by default. */
  code?: ErrorCode;
  /** Counts and fails only operations on paths this accepts. */
  on?: (path: string) => boolean;
  /** Of a write that fails: how many bytes are written all the same. None by default. */
  writtenBytes?: number;
  /** Of a sync that fails: what it dropped cannot be read any more either. */
  isEvicted?: boolean;
  /** It takes effect and fails all the same: the answer was lost. Of a write, use `writtenBytes`. */
  isDone?: boolean;
}

/** Faults that are armed, and how often each operation was asked for. */
export class MemoryFaults {
  readonly counts = new Map<FileOperation, number>();
  /** Asked about each operation that meets no fault that is armed. */
  decide: ((event: OperationEvent) => Fault | undefined) | undefined;
  #armed: { fault: Fault; seen: number }[] = [];

  add(fault: Fault): void {
    this.#armed.push({ fault, seen: 0 });
  }

  clear(): void {
    this.#armed = [];
  }

  isArmedFor(operation: FileOperation): boolean {
    return this.#armed.some(({ fault }) => fault.operation === operation);
  }

  /** Counts one operation; gives the fault it meets, if any. */
  meet(event: OperationEvent): Fault | undefined {
    this.counts.set(event.operation, (this.counts.get(event.operation) ?? 0) + 1);
    let met: Fault | undefined;
    for (const armed of this.#armed) {
      const { fault } = armed;
      if (fault.operation !== event.operation || fault.on?.(event.path) === false) continue;
      armed.seen += 1;
      if (armed.seen >= (fault.nth ?? 1)) met ??= fault;
    }
    this.#armed = this.#armed.filter(({ fault, seen }) => seen < lastHit(fault));
    return met ?? this.decide?.(event);
  }
}

export function faultError(fault: Fault, path: string): KelpieError {
  return new KelpieError(fault.code ?? "io", `${fault.operation} ${path}: an injected fault`);
}

function lastHit(fault: Fault): number {
  return (fault.nth ?? 1) + (fault.times ?? 1) - 1;
}
