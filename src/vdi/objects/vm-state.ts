import { writeU64 } from "../../base/little-endian.ts";
import { inodeFieldAt } from "../../sheepdog/wire-inode.ts";
import type { Objects } from "./objects.ts";

/** Says in the inode how much state of a machine the next snapshot has, and what its clock said. */
export async function describeVmState(
  objects: Objects,
  vid: number,
  vmState: { clockNs: number; sizeBytes: number },
): Promise<void> {
  for (const [offset, value] of [
    [inodeFieldAt.vmClock, vmState.clockNs],
    [inodeFieldAt.vmStateBytes, vmState.sizeBytes],
  ] as const) {
    const field = new Uint8Array(8);
    writeU64(field, 0, value);
    await objects.write({ kind: "inode", vid, index: 0 }, offset, [field]);
  }
}
