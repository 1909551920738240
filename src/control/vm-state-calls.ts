import { KelpieError } from "../base/errors.ts";
import { writeU64 } from "../base/little-endian.ts";
import { ObjectError, type Objects } from "../vdi/objects/objects.ts";
import type { CallArguments } from "./calls.ts";
import type { ControlParts, Handlers } from "./control.ts";

/** Where an inode has a snapshot's clock and the size of its state (src/sheepdog/wire-inode.ts). */
const vmClockAt = 528;
const vmStateBytesAt = 544;

/** The state of a machine that a disk keeps for its next snapshot, as Sheepdog's clients keep it there. */
export function vmStateCalls({ objects }: ControlParts): Handlers<"vdi.vmstate"> {
  return {
    "vdi.vmstate": async ({ name, offset, data }) => {
      await asKelpieErrors(async () => {
        const { vid, blockSizeShift } = await objects.lookup({ name, tag: "", snapId: 0 });
        const objectBytes = 2 ** blockSizeShift;
        const bytes = Buffer.from(data, "base64");
        for (let done = 0; done < bytes.length; ) {
          const at = (offset + done) % objectBytes;
          const count = Math.min(objectBytes - at, bytes.length - done);
          const index = (offset + done - at) / objectBytes;
          const chunks = [bytes.subarray(done, done + count)];
          await objects.create({ kind: "vmstate", vid, index }, { offset: at, chunks });
          done += count;
        }
      });
      return {};
    },
  };
}

type VmState = NonNullable<CallArguments<"vdi.snapshot">["history"]>["vmState"];

/** Says how much there is of it, before the snapshot is taken. */
export async function describeVmState(
  objects: Objects,
  name: string,
  vmState: NonNullable<VmState>,
): Promise<void> {
  await asKelpieErrors(async () => {
    const { vid } = await objects.lookup({ name, tag: "", snapId: 0 });
    for (const [offset, value] of [
      [vmClockAt, vmState.clockNs],
      [vmStateBytesAt, vmState.sizeBytes],
    ] as const) {
      const field = new Uint8Array(8);
      writeU64(field, 0, value);
      await objects.write({ kind: "inode", vid, index: 0 }, offset, [field]);
    }
  });
}

async function asKelpieErrors(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof ObjectError)) throw error;
    const isMissing = error.refusal === "no-vdi";
    throw new KelpieError(isMissing ? "not-found" : "io", error.message, { cause: error });
  }
}
