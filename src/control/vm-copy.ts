import type { Note } from "../vdi/notes.ts";
import type { Vdis } from "../vdi/vdis.ts";
import type { VmPending, VmRecord } from "../vdi/vm-record.ts";
import { copyOf } from "./vm-names.ts";

/** Makes the copy of a VM's memory VDI that a state is loaded from; says in the same record what for. */
export async function makeCopy(vdis: Vdis, record: VmRecord, pending: VmPending): Promise<string> {
  const copy = copyOf(record.memory);
  const changed: VmRecord = { ...record, pending: { ...pending, copy } };
  await vdis.cloneEach([], { source: record.memory, name: copy }, [
    { type: "vm", record: changed },
  ]);
  return copy;
}

/** Changes a VM's record; if it had a copy of its memory VDI that goes, in the same record. */
export async function dropCopy(
  vdis: Vdis,
  record: VmRecord,
  change: Partial<VmRecord>,
): Promise<void> {
  const changed: Note = { type: "vm", record: { ...record, ...change } };
  const copy = record.pending?.copy;
  if (copy === undefined || !vdis.registry.working.has(copy)) return await vdis.note([changed]);
  const notes: Note[] = [{ type: "delete", name: copy }, changed];
  // Its QEMU has closed it, or is gone; the end of the connection may not have been seen yet.
  await vdis.locks.run([copy], () =>
    vdis.deleteHolding(copy, { ignoring: "nbd", record: { changes: [], notes } }),
  );
  await vdis.purge(copy);
}
