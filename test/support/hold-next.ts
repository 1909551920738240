import type { FileOperation } from "../../sim/memory-faults.ts";
import type { MemoryFiles } from "../../sim/memory-files.ts";

/** Holds the next call of a kind on such a path until it is let go. */
export function holdNext(
  files: MemoryFiles,
  operation: FileOperation,
  on: (path: string) => boolean,
): { reached: Promise<void>; letGo: () => void } {
  const reached = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  files.before = (event) => {
    if (!on(event.path)) return undefined;
    // One that answered at once could not be held.
    if (operation === "read" && event.operation === "tryRead") return Promise.resolve();
    if (event.operation !== operation) return undefined;
    files.before = undefined;
    reached.resolve();
    return held.promise;
  };
  return { reached: reached.promise, letGo: held.resolve };
}
