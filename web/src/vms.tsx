import { useMemo, useState } from "preact/hooks";
import type { VmEntry, VmSnapshotEntry } from "../../src/control/vm-shapes.ts";
import { call } from "./api.ts";
import { Dialog, Field } from "./dialog.tsx";
import { date, duration, plural, shortDate, size } from "./format.ts";
import { useCall } from "./server-state.ts";
import { tell } from "./toasts.tsx";
import { Tree, type TreeNodeData } from "./tree.tsx";

export function VmsPage() {
  const { value: vms, error } = useCall("vm.list", {}, ["change", "job"]);
  const [open, setOpen] = useState<string>();
  const shown = vms?.find(({ name }) => name === open) ?? vms?.[0];
  return (
    <>
      <div class="heading">
        <h1>Machines</h1>
      </div>
      {error !== undefined && <p class="error">{error.message}</p>}
      {vms?.length === 0 && (
        <div class="card empty">
          <h2>There is no machine yet</h2>
          <p>
            <code>kelpie vm run vm1 --disk disk1</code> starts one on a disk;{" "}
            <code>kelpie vm attach</code> takes over a QEMU that runs. Its memory and its disks can
            then be saved and restored together.
          </p>
        </div>
      )}
      <div class="chips" role="group" aria-label="Choose a machine">
        {vms?.map((vm) => (
          <button
            type="button"
            key={vm.name}
            aria-pressed={vm === shown}
            onClick={() => setOpen(vm.name)}
          >
            {vm.name} <span class={`tag ${vm.state === "running" ? "good" : ""}`}>{vm.state}</span>
          </button>
        ))}
      </div>
      {shown !== undefined && <Vm vm={shown} key={shown.name} />}
    </>
  );
}

type VmAction =
  | { what: "save" }
  | { what: "load" | "branch" | "delete"; snapshot: VmSnapshotEntry };

/** The machine itself, beside its snapshots. */
const machineId = 0;

function Vm({ vm }: { vm: VmEntry }) {
  const { name, state, disks } = vm;
  const { value: snapshots } = useCall("vm.snapshots", { name }, ["change", "job"]);
  const [selected, setSelected] = useState<number>(machineId);
  const [action, setAction] = useState<VmAction>();
  const points = useMemo(() => pointsOf(vm, snapshots ?? []), [vm, snapshots]);
  const chosen = snapshots?.find(({ id }) => id === selected);
  return (
    <>
      <div class="heading">
        <h2>{name}</h2>
        <span class="muted">{disks.length === 0 ? "no disks" : disks.join(", ")}</span>
        <span class="spacer" />
        <button
          type="button"
          class="primary"
          disabled={state === "off" || state === "unknown"}
          onClick={() => setAction({ what: "save" })}
        >
          Save
        </button>
      </div>
      <Tree
        title={`Snapshots of ${name}`}
        points={points}
        selected={selected}
        select={setSelected}
      />
      {chosen !== undefined && <SnapshotCard snapshot={chosen} act={setAction} />}
      {action !== undefined && (
        <VmDialog vm={vm} action={action} close={() => setAction(undefined)} />
      )}
    </>
  );
}

function pointsOf(vm: VmEntry, snapshots: readonly VmSnapshotEntry[]): TreeNodeData[] {
  const current = snapshots.find((snapshot) => snapshot.current);
  const machine: TreeNodeData = {
    // Behind all snapshots, as it is younger than they are.
    id: machineId,
    parent: current?.id ?? null,
    name: vm.name,
    isTip: true,
    label: vm.name,
    note: vm.state,
    description: "the machine",
  };
  const saved = snapshots.map((snapshot): TreeNodeData => {
    const { id, parent, tag, takenMs, memoryBytes } = snapshot;
    return {
      id,
      parent,
      name: vm.name,
      isTip: false,
      label: tag,
      note: shortDate(takenMs),
      description: `saved with ${size(memoryBytes)} of memory`,
    };
  });
  return [...saved, machine];
}

interface SnapshotCardProps {
  snapshot: VmSnapshotEntry;
  act: (action: VmAction) => void;
}

function SnapshotCard({ snapshot, act }: SnapshotCardProps) {
  const { tag, id, takenMs, memoryBytes, clockNs, disks, current } = snapshot;
  return (
    <section class="card point" aria-label={`About ${tag}`}>
      <h2>
        {tag} <span class="tag">{id}</span>
        {current && <span class="tag good">the machine stands on it</span>}
      </h2>
      <dl>
        <dt>Saved</dt>
        <dd>{date(takenMs)}</dd>
        <dt>Memory</dt>
        <dd>{size(memoryBytes)}</dd>
        <dt>Had run</dt>
        <dd>{duration(clockNs / 1e6)}</dd>
        <dt>Disks</dt>
        <dd>{plural(disks.length, "disk")}, of the same moment</dd>
      </dl>
      <div class="buttons">
        <button type="button" class="primary" onClick={() => act({ what: "load", snapshot })}>
          Load
        </button>
        <button type="button" onClick={() => act({ what: "branch", snapshot })}>
          Branch
        </button>
        <button type="button" onClick={() => act({ what: "delete", snapshot })}>
          Delete
        </button>
      </div>
    </section>
  );
}

interface VmDialogProps {
  vm: VmEntry;
  action: VmAction;
  close: () => void;
}

function VmDialog({ vm: { name }, action, close }: VmDialogProps) {
  const [text, setText] = useState("");
  if (action.what === "save") {
    const act = async () => {
      const { snapshot, pausedMs } = await call(
        "vm.savevm",
        text === "" ? { name } : { name, tag: text },
      );
      tell(`${name} is saved as ${snapshot.tag}; it stood still for ${duration(pausedMs)}.`);
    };
    return (
      <Dialog title={`Save ${name}`} verb="Save" act={act} close={close}>
        <p>Memory, devices and all disks, of one moment. The machine stands still meanwhile.</p>
        <Field label="Tag" hint="Empty: the time" value={text} change={setText} />
      </Dialog>
    );
  }
  const { snapshot } = action;
  const of = `#${snapshot.id}`;
  if (action.what === "load") {
    const act = async () => {
      const { tookMs } = await call("vm.loadvm", { name, snapshot: of });
      tell(`${name} goes on from ${snapshot.tag}, after ${duration(tookMs)}.`);
    };
    return (
      <Dialog title={`Load ${snapshot.tag}`} verb="Load" isDangerous act={act} close={close}>
        <p>
          {name} goes on from where it was saved {shortDate(snapshot.takenMs)}. What it did since,
          in memory and on its disks, is given up unless it was saved too.
        </p>
      </Dialog>
    );
  }
  if (action.what === "branch") {
    const act = async () => {
      await call("vm.branch", { name, snapshot: of, as: text });
      tell(`${text} is there; kelpie vm run ${text} starts it.`);
    };
    return (
      <Dialog
        title={`Branch from ${snapshot.tag}`}
        verb="Branch"
        isReady={text !== ""}
        act={act}
        close={close}
      >
        <p>A machine of its own, on clones of the disks, that goes on from this snapshot.</p>
        <Field label="Name" value={text} change={setText} />
      </Dialog>
    );
  }
  const act = async () => {
    await call("vm.delvm", { name, snapshot: of });
    tell(`${snapshot.tag} of ${name} is deleted.`);
  };
  return (
    <Dialog
      title={`Delete ${snapshot.tag}`}
      verb="Delete for good"
      isDangerous
      act={act}
      close={close}
    >
      <p>Its memory and its snapshots of the disks go. They cannot be brought back.</p>
    </Dialog>
  );
}
