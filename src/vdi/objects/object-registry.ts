import { z } from "zod";
import type { VdiSettings } from "./objects.ts";
import { VidTable, vidSaved } from "./vid-table.ts";

const count = z.number().int().nonnegative();

/** What a store was formatted with. */
export const formatNote = z.strictObject({
  copies: count,
  copyPolicy: count,
  blockSizeShift: z.number().int().min(20).max(31),
  locking: z.boolean(),
});

export const objectsSaved = z.object({ vids: z.array(vidSaved), format: formatNote });

/** What disks have that nobody of Sheepdog made: the store keeps the data, whatever number stands here. */
const unformatted = { copies: 1, copyPolicy: 0, blockSizeShift: 22, locking: false };

/** What notes say for clients of Sheepdog. Empty in a store that none of them ever looked at. */
export class ObjectRegistry {
  readonly vids = new VidTable();
  format: z.infer<typeof formatNote> = unformatted;

  /** Of disks that do not say otherwise. */
  get defaults(): VdiSettings {
    const { copies, copyPolicy, blockSizeShift } = this.format;
    return { copies, copyPolicy, blockSizeShift };
  }

  load(state: z.infer<typeof objectsSaved>): void {
    for (const entry of state.vids) this.vids.add(entry);
    this.format = state.format;
  }

  save(): z.infer<typeof objectsSaved> {
    const vids = [...this.vids.values()].map((entry) => ({ ...entry }));
    return { vids, format: this.format };
  }
}
