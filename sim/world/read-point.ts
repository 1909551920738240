import type { Store } from "../../src/store/store.ts";
import { readBytes } from "../../src/vdi/byte-ranges.ts";
import { readValues } from "./content.ts";

/** What the sectors that worlds use hold in a point. */
export async function readPoint(
  store: Store,
  point: number,
  sectors: number,
): Promise<Uint32Array> {
  const at = store.point(point);
  const read = (target: Buffer, offset: number): void | Promise<void> =>
    readBytes((blocks, first) => store.read(at, { target: blocks, first }), target, offset);
  return readValues(read, sectors);
}
