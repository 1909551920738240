import { z } from "zod";

/** How far a copy has come; kept outside of the store by whoever copies. */
export const copyState = z.object({
  /** Of each disk that was made its first point's number, which no other disk ever has. */
  made: z.record(z.string(), z.number()),
  /** A disk that is being made just now. */
  making: z.string().optional(),
  /** The points that are complete, by vid; what was a working VDI then may be a snapshot now. */
  done: z.array(z.object({ vid: z.number(), kind: z.enum(["working", "snapshot"]) })),
  /** The point that is being copied, and how many objects of it are safe from power loss. */
  current: z.object({ vid: z.number(), objects: z.number() }).optional(),
});
export type CopyState = z.infer<typeof copyState>;

/** Where the state is kept. */
export interface CopyNotes {
  load(): Promise<CopyState | undefined>;
  save(state: CopyState): Promise<void>;
  remove(): Promise<void>;
}

/** For a copy that nobody goes on with. */
export const noCopyNotes: CopyNotes = {
  async load() {
    return undefined;
  },
  async save() {},
  async remove() {},
};
