import { useState } from "preact/hooks";
import type { VdiEntry } from "../../src/control/calls.ts";
import { call } from "./api.ts";
import { Dialog, Field } from "./dialog.tsx";
import { parseSize, plural, size } from "./format.ts";
import { titleOf } from "./points.ts";
import { useCall } from "./server-state.ts";
import { tell } from "./toasts.tsx";

export type DiskAction =
  | { what: "snapshot"; name: string }
  | { what: "rollback"; entry: VdiEntry; working: VdiEntry }
  | { what: "clone" | "delete" | "deleteSnapshot" | "resize"; entry: VdiEntry };

interface Props<W extends DiskAction["what"]> {
  action: Extract<DiskAction, { what: W }> & DiskAction;
  close: () => void;
}

export function DiskDialog({ action, close }: { action: DiskAction; close: () => void }) {
  switch (action.what) {
    case "snapshot":
      return <SnapshotDialog name={action.name} close={close} />;
    case "rollback":
      return <RollbackDialog action={action} close={close} />;
    case "clone":
      return <CloneDialog entry={action.entry} close={close} />;
    case "resize":
      return <ResizeDialog entry={action.entry} close={close} />;
    case "delete":
      return <DeleteDialog entry={action.entry} close={close} />;
    case "deleteSnapshot":
      return <DeleteSnapshotDialog entry={action.entry} close={close} />;
  }
}

interface EntryProps {
  entry: VdiEntry;
  close: () => void;
}

/** How a snapshot is named in a call, whatever its tag is. */
function selectorOf({ snapId }: VdiEntry): string {
  return `#${snapId}`;
}

function SnapshotDialog({ name, close }: { name: string; close: () => void }) {
  const [tag, setTag] = useState("");
  const act = async () => {
    const [made] = await call(
      "vdi.snapshot",
      tag === "" ? { names: [name] } : { names: [name], tag },
    );
    tell(`${name} has snapshot ${made === undefined ? tag : titleOf(made)}.`);
  };
  return (
    <Dialog title={`Snapshot of ${name}`} verb="Take snapshot" act={act} close={close}>
      <p>It is as the disk is now. Whoever writes to the disk goes on meanwhile.</p>
      <Field label="Tag" hint="May be empty: it has a number too" value={tag} change={setTag} />
    </Dialog>
  );
}

function RollbackDialog({ action, close }: Props<"rollback">) {
  const { entry } = action;
  const { name } = entry;
  // As it is now, and not as it was when it was last looked at.
  const { value: info } = useCall("vdi.info", { name }, ["change", "statistics"]);
  const working = info?.entry ?? action.working;
  const isLive = working.clients > 0;
  const [isSure, setSure] = useState(false);
  const act = async () => {
    await call("vdi.rollback", { names: [name], snapshot: selectorOf(entry), live: isLive });
    tell(`${name} stands on ${titleOf(entry)}.`, () =>
      call("vdi.undelete", { name, live: isLive }),
    );
  };
  return (
    <Dialog
      title={`Roll ${name} back to ${titleOf(entry)}`}
      verb="Roll back"
      isDangerous
      isReady={info !== undefined && (isSure || !isLive)}
      act={act}
      close={close}
    >
      <p>
        The working VDI, with <strong>{size(working.exclusiveBytes)}</strong> that only it holds, is
        set aside and can be brought back for a while. Every snapshot stays as it is.
      </p>
      {isLive && (
        <label class="check">
          <input
            type="checkbox"
            checked={isSure}
            onChange={(event) => setSure(event.currentTarget.checked)}
          />
          {plural(working.clients, "client")} will find another disk under their feet: do it all the
          same
        </label>
      )}
    </Dialog>
  );
}

function CloneDialog({ entry, close }: EntryProps) {
  const [name, setName] = useState("");
  const act = async () => {
    await call("vdi.clone", { source: entry.name, snapshot: selectorOf(entry), name });
    tell(`${name} stands on ${titleOf(entry)}.`);
  };
  return (
    <Dialog
      title={`Clone ${entry.name} at ${titleOf(entry)}`}
      verb="Clone"
      isReady={name !== ""}
      act={act}
      close={close}
    >
      <p>A disk of its own that begins as the snapshot is. It takes no space until it changes.</p>
      <Field label="Name" value={name} change={setName} />
    </Dialog>
  );
}

function ResizeDialog({ entry, close }: EntryProps) {
  const { name, sizeBytes } = entry;
  const [text, setText] = useState(size(sizeBytes));
  const [isSure, setSure] = useState(false);
  const wanted = parseSize(text);
  const shrinks = wanted !== undefined && wanted < sizeBytes;
  const act = async () => {
    await call("vdi.resize", { name, sizeBytes: wanted ?? sizeBytes, shrink: shrinks });
    tell(`${name} has ${size(wanted ?? sizeBytes)}.`);
  };
  const isReady = wanted !== undefined && wanted !== sizeBytes && (!shrinks || isSure);
  return (
    <Dialog
      title={`Resize ${name}`}
      verb="Resize"
      isDangerous={shrinks}
      isReady={isReady}
      act={act}
      close={close}
    >
      <Field label="Size" hint={`Now ${size(sizeBytes)}`} value={text} change={setText} />
      {shrinks && (
        <label class="check">
          <input
            type="checkbox"
            checked={isSure}
            onChange={(event) => setSure(event.currentTarget.checked)}
          />
          What lies beyond the new end is lost, except in snapshots: do it all the same
        </label>
      )}
    </Dialog>
  );
}

function DeleteDialog({ entry, close }: EntryProps) {
  const { name, exclusiveBytes } = entry;
  const act = async () => {
    await call("vdi.delete", { name });
    tell(`${name} is deleted.`, () => call("vdi.undelete", { name }));
    window.location.hash = "#/disks";
  };
  return (
    <Dialog title={`Delete ${name}`} verb="Delete" isDangerous act={act} close={close}>
      <p>
        Its working VDI, with <strong>{size(exclusiveBytes)}</strong> that only it holds, is set
        aside and can be brought back for a while. Its snapshots stay.
      </p>
    </Dialog>
  );
}

function DeleteSnapshotDialog({ entry, close }: EntryProps) {
  const act = async () => {
    await call("vdi.delete", { name: entry.name, snapshot: selectorOf(entry) });
    tell(`Snapshot ${titleOf(entry)} of ${entry.name} is deleted.`);
  };
  return (
    <Dialog
      title={`Delete snapshot ${titleOf(entry)} of ${entry.name}`}
      verb="Delete for good"
      isDangerous
      act={act}
      close={close}
    >
      <p>
        That returns <strong>{size(entry.exclusiveBytes)}</strong>. What stands on it stays as it
        is. A deleted snapshot <strong>cannot be brought back</strong>.
      </p>
    </Dialog>
  );
}
