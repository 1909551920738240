import { KelpieError } from "../base/errors.ts";
import { ObjectError, type Objects } from "../vdi/objects/objects.ts";
import { describeVmState as describe } from "../vdi/objects/vm-state.ts";
import type { CallArguments } from "./calls.ts";
import type { ControlParts, Handlers } from "./control.ts";

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
    await describe(objects, vid, vmState);
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
