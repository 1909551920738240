import { performance } from "node:perf_hooks";
import type { Clock } from "../clock.ts";

export function createNodeClock(): Clock {
  return {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
  };
}
