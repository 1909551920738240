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
  /** Of a hyper volume. */
  btreeNodes: count,
});

export type InodeFields = z.infer<typeof inodeFields>;

export const noInodeFields: Readonly<InodeFields> = {
  tag: "",
  vmStateBytes: 0,
  vmClockNs: 0,
  btreeNodes: 0,
};

export const attributeNote = z.strictObject({
  nameHash: count,
  attrId: count,
  name: z.string(),
  tag: z.string(),
  snapId: count,
  key: z.string(),
  /** In base64; null: it was deleted, and its place is kept for what stands behind it. */
  value: z.base64().nullable(),
});

export const attributeSaved = attributeNote.extend({ createdMs: z.number() });
export type SavedAttribute = z.infer<typeof attributeSaved>;

export const objectsSaved = z.object({
  vids: z.array(vidSaved),
  format: formatNote,
  inodes: z.array(inodeFields.extend({ point: count })).default([]),
  extras: z.array(z.strictObject({ point: count, extra: count })).default([]),
  attributes: z.array(attributeSaved).default([]),
});

/** What disks have that nobody of Sheepdog made: the store keeps the data, whatever number stands here. */
const unformatted = { copies: 1, copyPolicy: 0, blockSizeShift: 22, locking: false };

/** What notes say for clients of Sheepdog. Empty in a store that none of them ever looked at. */
export class ObjectRegistry {
  readonly vids = new VidTable();
  format: z.infer<typeof formatNote> = unformatted;

  /** By point. */
  readonly inodes = new Map<number, InodeFields>();

  /** By point: the hidden one with what clients keep beside its data. */
  readonly extras = new Map<number, number>();
  readonly attributes = new Map<string, SavedAttribute>();
  /** Characters of all values, for the limit. */
  attributeCharacters = 0;

  /** Of disks that do not say otherwise. */
  get defaults(): VdiSettings {
    const { copies, copyPolicy, blockSizeShift } = this.format;
    return { copies, copyPolicy, blockSizeShift };
  }

  load(state: z.infer<typeof objectsSaved>): void {
    for (const entry of state.vids) this.vids.add(entry);
    this.format = state.format;
    for (const { point, extra } of state.extras) this.extras.set(point, extra);
    for (const attribute of state.attributes) this.setAttribute(attribute);
    for (const { point, ...inode } of state.inodes) this.inodes.set(point, inode);
  }

  save(): z.infer<typeof objectsSaved> {
    const vids = [...this.vids.values()].map((entry) => ({ ...entry }));
    const inodes = [...this.inodes].map(([point, inode]) => ({ ...inode, point }));
    const extras = [...this.extras].map(([point, extra]) => ({ point, extra }));
    const attributes = [...this.attributes.values()].map((one) => ({ ...one }));
    return { vids, format: this.format, inodes, extras, attributes };
  }

  attribute(nameHash: number, attrId: number): SavedAttribute | undefined {
    return this.attributes.get(`${nameHash} ${attrId}`);
  }

  setAttribute(attribute: SavedAttribute): void {
    const { nameHash, attrId, value } = attribute;
    const before = this.attribute(nameHash, attrId);
    this.attributeCharacters += (value?.length ?? 0) - (before?.value?.length ?? 0);
    // One that was deleted is passed over on the way to what stands behind it; else it is not needed.
    const isNeeded = value !== null || this.attribute(nameHash, (attrId + 1) % 2 ** 32);
    if (isNeeded) this.attributes.set(`${nameHash} ${attrId}`, attribute);
    else this.attributes.delete(`${nameHash} ${attrId}`);
  }

  /** The point is gone for good. Its vid stays. */
  forget(point: number): void {
    this.inodes.delete(point);
    this.extras.delete(point);
  }
}
