import type { Note } from "../vdi/notes.ts";
import type { VdiRegistry } from "../vdi/registry.ts";
import type { ServerEvents } from "./server-events.ts";

/** Tells of every change of disks and machines, whoever asked for it and over which protocol. */
export function watchChanges(registry: VdiRegistry, events: ServerEvents): void {
  registry.watcher = (note, atMs) => {
    const described = describe(note, registry);
    if (described !== undefined) events.change({ atMs, ...described });
  };
}

interface Described {
  what: string;
  name: string;
  detail: string;
}

/** Undefined for what only clients of Sheepdog can see. */
function describe(note: Note, registry: VdiRegistry): Described | undefined {
  const what = note.type;
  switch (note.type) {
    case "create":
    case "delete":
    case "forgetVm":
      return { what, name: note.name, detail: "" };
    case "snapshot":
      return { what, name: note.name, detail: note.tag === "" ? `#${note.snapId}` : note.tag };
    case "replace":
      return { what: note.why, name: note.name, detail: "" };
    case "deleteSnapshot": {
      const snapshot = registry.snapshotAt(note.point);
      const detail = snapshot?.tag || `#${snapshot?.snapId ?? note.point}`;
      return { what, name: snapshot?.name ?? "", detail };
    }
    case "purge":
      return { what, name: registry.discarded.get(note.point)?.name ?? "", detail: "" };
    case "vm":
      return { what, name: note.record.name, detail: "" };
    default:
      return undefined;
  }
}
