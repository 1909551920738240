import { randomFillSync } from "node:crypto";
import type { RandomSource } from "../random.ts";

export function createNodeRandom(): RandomSource {
  return { bytes: (count) => randomFillSync(new Uint8Array(count)) };
}
