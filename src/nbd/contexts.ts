import { KelpieError } from "../base/errors.ts";
import type { ExtentKind } from "../block/block-device.ts";

/** Metadata contexts: "base:" is of the NBD specification, "qemu:" of QEMU's docs/interop/nbd.rst. */
export const allocationContext = "base:allocation";
export const depthContext = "qemu:allocation-depth";
export const dirtyBitmapPrefix = "qemu:dirty-bitmap:";

/** Flags of base:allocation. */
export const allocationFlag = { hole: 1, zero: 2 } as const;

/** What an export offers, given the points that it knows changes since. */
export function availableContexts(changeBases: readonly string[]): string[] {
  const bitmaps = changeBases.map((base) => dirtyBitmapPrefix + base);
  return [allocationContext, depthContext, ...bitmaps];
}

/**
 * The contexts that queries select, in the order they are offered in. With `wildcards`, as
 * LIST_META_CONTEXT has them, a bare namespace selects what is in it, and no query everything.
 * Throws "invalid" for a query without a namespace; others that match nothing select nothing.
 */
export function selectContexts(
  available: readonly string[],
  queries: readonly string[],
  wildcards: boolean,
): string[] {
  for (const query of queries) {
    if (!/^[^:]+:/.test(query)) {
      throw new KelpieError("invalid", `"${query}" does not name a namespace`);
    }
  }
  if (wildcards && queries.length === 0) return [...available];
  return available.filter((context) =>
    queries.some((query) => query === context || (wildcards && isWildcardOf(query, context))),
  );
}

/** The device's question that answers for a context; undefined for one we do not know. */
export function extentKindOf(context: string): ExtentKind | undefined {
  if (context === allocationContext) return { kind: "allocation" };
  if (context === depthContext) return { kind: "depth" };
  if (!context.startsWith(dirtyBitmapPrefix)) return undefined;
  return { kind: "changed", since: context.slice(dirtyBitmapPrefix.length) };
}

export function contextOf(kind: ExtentKind): string {
  if (kind.kind === "allocation") return allocationContext;
  if (kind.kind === "depth") return depthContext;
  return dirtyBitmapPrefix + kind.since;
}

/** Device value to the flags of a context: only base:allocation has a coding of its own. */
export function flagsOfValue(kind: ExtentKind, value: number): number {
  if (kind.kind !== "allocation") return value;
  if (value === 1) return allocationFlag.hole | allocationFlag.zero;
  return value === 2 ? allocationFlag.zero : 0;
}

/** The reverse. A hole that does not read as zeros must be read, so it counts as data. */
export function valueOfFlags(kind: ExtentKind, flags: number): number {
  if (kind.kind === "depth") return flags;
  if (kind.kind === "changed") return flags & 1;
  if ((flags & allocationFlag.zero) === 0) return 0;
  return (flags & allocationFlag.hole) !== 0 ? 1 : 2;
}

function isWildcardOf(query: string, context: string): boolean {
  const isNamespace = query === "base:" || query === "qemu:" || query === dirtyBitmapPrefix;
  return isNamespace && context.startsWith(query);
}
