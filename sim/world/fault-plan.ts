import type { Fault, OperationEvent } from "../memory-faults.ts";
import type { Chooser } from "../random.ts";
import { areaOf } from "./sites.ts";

export type FaultKind = "io" | "no-space" | "short write" | "answer lost" | "dropped pages";

interface Trouble {
  kind: FaultKind;
  operation: OperationEvent["operation"];
  area: string;
  /** Of so many calls of the kind one fails; and no more than `left` in all. */
  oneIn: number;
  left: number;
}

const areas = ["logs", "logs", "logs", "catalog", "checkpoints", "maps", "body", "spare", "store"];
const operations: OperationEvent["operation"][] = [
  "sync",
  "sync",
  "sync",
  "write",
  "write",
  "open",
  "syncDirectory",
  "link",
  "rename",
  "remove",
  "read",
  "truncate",
  "close",
  "list",
  "readFile",
];

/** Faults of one life of a machine: a few kinds of calls fail now and then, some number of times. */
export class FaultPlan {
  readonly #chooser: Chooser;
  readonly #troubles: Trouble[] = [];
  readonly met = new Map<FaultKind, number>();
  lastKind: FaultKind | "none" = "none";
  /** A map could not be read: what is counted as needed may be too much until a check repairs it. */
  hasHiddenMaps = false;
  #isOver = false;

  constructor(chooser: Chooser, troubles: number) {
    this.#chooser = chooser;
    const one = <T>(choices: readonly T[]): T => choices[chooser.below(choices.length)] as T;
    for (let count = 0; count < troubles; count++) {
      const operation = one(operations);
      this.#troubles.push({
        kind: one(kindsOf(operation)),
        operation,
        area: one(areas),
        oneIn: one([1, 2, 4, 12]),
        left: 1 + chooser.below(4),
      });
    }
  }

  get count(): number {
    let count = 0;
    for (const times of this.met.values()) count += times;
    return count;
  }

  /** The host is sound from here on. */
  end(): void {
    this.#isOver = true;
  }

  meet(event: OperationEvent): Fault | undefined {
    if (this.#isOver || this.#troubles.length === 0) return undefined;
    const area = areaOf(event.path);
    for (const trouble of this.#troubles) {
      if (trouble.operation !== event.operation || trouble.area !== area || trouble.left === 0) {
        continue;
      }
      if (this.#chooser.below(trouble.oneIn) !== 0) continue;
      trouble.left--;
      this.lastKind = trouble.kind;
      if (area === "maps" && reading.has(event.operation)) this.hasHiddenMaps = true;
      this.met.set(trouble.kind, (this.met.get(trouble.kind) ?? 0) + 1);
      return this.#faultOf(trouble);
    }
    return undefined;
  }

  #faultOf({ kind, operation }: Trouble): Fault {
    switch (kind) {
      case "io":
        return { operation };
      case "no-space":
        return { operation, code: "no-space" };
      case "short write":
        return { operation, writtenBytes: this.#chooser.below(20) * 512 + 100 };
      case "answer lost":
        if (operation === "write") return { operation, writtenBytes: Number.POSITIVE_INFINITY };
        return { operation, isDone: true };
      case "dropped pages":
        return { operation, isEvicted: true };
    }
  }
}

const reading = new Set<OperationEvent["operation"]>(["read", "open", "readFile"]);

function kindsOf(operation: OperationEvent["operation"]): FaultKind[] {
  switch (operation) {
    case "write":
      return ["io", "no-space", "short write", "short write", "answer lost"];
    case "sync":
      return ["io", "io", "dropped pages", "answer lost"];
    case "open":
    case "link":
    case "rename":
      return ["io", "no-space", "answer lost"];
    case "remove":
    case "truncate":
    case "syncDirectory":
      return ["io", "answer lost"];
    default:
      return ["io"];
  }
}
