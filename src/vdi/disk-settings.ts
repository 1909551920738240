import type { FlushMode, Note } from "./notes.ts";
import type { Qos } from "./qos.ts";

/** What a new disk has that is not as usual. */
export interface DiskSettings {
  qos?: Qos | undefined;
  flush?: FlushMode | undefined;
}

export function settingsNotes(name: string, { qos, flush }: DiskSettings): Note[] {
  const notes: Note[] = [];
  if (qos !== undefined) notes.push({ type: "qos", name, qos });
  if (flush === "local") notes.push({ type: "flush", name, mode: flush });
  return notes;
}
