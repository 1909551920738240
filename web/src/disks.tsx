import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { VdiEntry } from "../../src/control/calls.ts";
import type { Figures } from "../../src/control/server-shapes.ts";
import { call } from "./api.ts";
import { Dialog, Field } from "./dialog.tsx";
import { count, parseSize, plural, size } from "./format.ts";
import { useCall } from "./server-state.ts";
import { tell } from "./toasts.tsx";

/** A disk in the list: its working VDI, and what of its snapshots is worth a word. */
interface Row {
  entry: VdiEntry;
  snapshots: number;
  now: Figures | undefined;
}

export function DisksPage() {
  const list = useCall("vdi.list", {});
  const statistics = useCall("server.statistics", {}, ["statistics"]);
  const [filter, setFilter] = useState("");
  const [isCreating, setCreating] = useState(false);
  const rows = useMemo(
    () => rowsOf(list.value ?? [], statistics.value?.exports ?? []),
    [list.value, statistics.value],
  );
  const wanted = filter.trim().toLowerCase();
  const shown = rows.filter(({ entry }) => entry.name.toLowerCase().includes(wanted));
  return (
    <>
      <div class="heading">
        <h1>Disks</h1>
        <span class="muted">{list.value === undefined ? "" : plural(rows.length, "disk")}</span>
        <span class="spacer" />
        <input
          type="search"
          aria-label="Find a disk"
          placeholder="Find a disk"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <button type="button" class="primary" onClick={() => setCreating(true)}>
          New disk
        </button>
      </div>
      {list.value !== undefined && rows.length === 0 ? (
        <Empty create={() => setCreating(true)} />
      ) : (
        <DiskTable rows={shown} />
      )}
      {isCreating && <CreateDialog close={() => setCreating(false)} />}
    </>
  );
}

function rowsOf(entries: readonly VdiEntry[], exports: readonly ({ name: string } & Figures)[]) {
  const now = new Map(exports.map((figures) => [figures.name, figures]));
  const snapshots = new Map<string, number>();
  for (const { name, kind } of entries) {
    if (kind === "snapshot") snapshots.set(name, (snapshots.get(name) ?? 0) + 1);
  }
  return entries
    .filter(({ kind }) => kind === "working")
    .map((entry): Row => {
      const { name } = entry;
      return { entry, snapshots: snapshots.get(name) ?? 0, now: now.get(name) };
    });
}

const rowHeight = 52;
/** Rows that are drawn beyond what can be seen. */
const margin = 8;

/** Only what can be seen is drawn: ten thousand disks are as quick as ten. */
function DiskTable({ rows }: { rows: readonly Row[] }) {
  const body = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  useEffect(() => {
    const look = () => {
      const box = body.current?.getBoundingClientRect();
      if (box !== undefined) setView({ top: -box.top, height: window.innerHeight });
    };
    look();
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    return () => {
      window.removeEventListener("scroll", look);
      window.removeEventListener("resize", look);
    };
  }, []);
  const first = Math.max(0, Math.floor(view.top / rowHeight) - margin);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / rowHeight) + margin);
  return (
    <div class="disks" role="table" aria-label="Disks" aria-rowcount={rows.length + 1}>
      <div role="rowgroup">
        <div class="disk-row head" role="row" aria-rowindex={1}>
          <span role="columnheader">Name</span>
          <span role="columnheader">Size</span>
          <span role="columnheader" title="Only this disk holds it: deleting the disk returns it">
            Own
          </span>
          <span role="columnheader" title="Held together with snapshots and clones">
            Shared
          </span>
          <span role="columnheader">Snapshots</span>
          <span role="columnheader">In use</span>
          <span role="columnheader">Now</span>
        </div>
      </div>
      <div
        role="rowgroup"
        ref={body}
        class="disk-rows"
        style={{ height: `${rows.length * rowHeight}px` }}
      >
        {rows.slice(first, last).map((row, index) => (
          <DiskRow row={row} index={first + index} key={row.entry.name} />
        ))}
      </div>
    </div>
  );
}

function DiskRow({ row: { entry, snapshots, now }, index }: { row: Row; index: number }) {
  const { name, sizeBytes, exclusiveBytes, sharedBytes, clients, vm, clone } = entry;
  return (
    <div
      class="disk-row"
      role="row"
      aria-rowindex={index + 2}
      style={{ transform: `translateY(${index * rowHeight}px)` }}
    >
      <span role="cell" class="name">
        <a href={`#/disk/${encodeURIComponent(name)}`}>{name}</a>
        {clone && <span class="tag">clone</span>}
      </span>
      <span role="cell">{size(sizeBytes)}</span>
      <span role="cell">{size(exclusiveBytes)}</span>
      <span role="cell">{size(sharedBytes)}</span>
      <span role="cell">{snapshots}</span>
      <span role="cell">{vm ?? (clients === 0 ? "" : plural(clients, "client"))}</span>
      <span role="cell" class="now">
        {now === undefined ? "" : <Now figures={now} />}
      </span>
    </div>
  );
}

export function Now({ figures }: { figures: Figures }) {
  const { readOps, writeOps, otherOps, readBytes, writeBytes } = figures;
  return (
    <>
      {count(readOps + writeOps + otherOps)} ops/s{" "}
      <span class="muted">{size(readBytes + writeBytes)}/s</span>
    </>
  );
}

function Empty({ create }: { create: () => void }) {
  return (
    <div class="empty card">
      <h2>There is no disk yet</h2>
      <p>
        A disk takes no space until something is written. QEMU, <code>qemu-img</code> and{" "}
        <code>nbdcopy</code> open it over NBD, under its name.
      </p>
      <button type="button" class="primary" onClick={create}>
        Make the first one
      </button>
    </div>
  );
}

function CreateDialog({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [text, setText] = useState("10G");
  const sizeBytes = parseSize(text);
  const act = async () => {
    await call("vdi.create", { name, sizeBytes: sizeBytes ?? 0 });
    tell(`${name} is there.`);
  };
  return (
    <Dialog
      title="New disk"
      verb="Create"
      isReady={name !== "" && sizeBytes !== undefined}
      act={act}
      close={close}
    >
      <Field label="Name" value={name} change={setName} />
      <Field
        label="Size"
        hint={
          sizeBytes === undefined
            ? "Like 512M, 10G or 1.5T"
            : `${size(sizeBytes)}; it can grow later`
        }
        value={text}
        change={setText}
      />
    </Dialog>
  );
}
