import { z } from "zod";
import { VidTable, vidSaved } from "./vid-table.ts";

export const objectsSaved = z.object({ vids: z.array(vidSaved) });

/** What notes say for clients of Sheepdog. Empty in a store that none of them ever looked at. */
export class ObjectRegistry {
  readonly vids = new VidTable();

  load(state: z.infer<typeof objectsSaved>): void {
    for (const entry of state.vids) this.vids.add(entry);
  }

  save(): z.infer<typeof objectsSaved> {
    return { vids: [...this.vids.values()].map((entry) => ({ ...entry })) };
  }
}
