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

/** Fields of an inode that clients write. */
export const inodeFields = z.strictObject({
  tag: z.string(),
  vmStateBytes: count,
  vmClockNs: count,
});

export type InodeFields = z.infer<typeof inodeFields>;

export const noInodeFields: Readonly<InodeFields> = { tag: "", vmStateBytes: 0, vmClockNs: 0 };

export const objectsSaved = z.object({
  vids: z.array(vidSaved),
  format: formatNote,
  inodes: z.array(inodeFields.extend({ point: count })).default([]),
});

/** What disks have that nobody of Sheepdog made: the store keeps the data, whatever number stands here. */
const unformatted = { copies: 1, copyPolicy: 0, blockSizeShift: 22, locking: false };

/** What notes say for clients of Sheepdog. Empty in a store that none of them ever looked at. */
export class ObjectRegistry {
  readonly vids = new VidTable();
  format: z.infer<typeof formatNote> = unformatted;

  /** By point. */
  readonly inodes = new Map<number, InodeFields>();

  /** Of disks that do not say otherwise. */
  get defaults(): VdiSettings {
    const { copies, copyPolicy, blockSizeShift } = this.format;
    return { copies, copyPolicy, blockSizeShift };
  }

  load(state: z.infer<typeof objectsSaved>): void {
    for (const entry of state.vids) this.vids.add(entry);
    this.format = state.format;
    for (const { point, ...inode } of state.inodes) this.inodes.set(point, inode);
  }

  save(): z.infer<typeof objectsSaved> {
    const vids = [...this.vids.values()].map((entry) => ({ ...entry }));
    const inodes = [...this.inodes].map(([point, inode]) => ({ ...inode, point }));
    return { vids, format: this.format, inodes };
  }

  /** What was known of a point is known of another one from here on. */
  move(from: number, to: number): void {
    this.vids.move(from, to);
    const inode = this.inodes.get(from);
    if (inode !== undefined) this.inodes.set(to, inode);
    this.forget(from);
  }

  /** The point is gone for good. Its vid stays. */
  forget(point: number): void {
    this.inodes.delete(point);
  }
}
