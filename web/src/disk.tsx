import { useMemo, useState } from "preact/hooks";
import type { CallOutput, DiscardedEntry, VdiEntry } from "../../src/control/calls.ts";
import { familyEntries } from "../../src/control/tree.ts";
import { call } from "./api.ts";
import { CompareCard } from "./compare.tsx";
import { type DiskAction, DiskDialog } from "./disk-dialogs.tsx";
import { date, plural, shortDate, size } from "./format.ts";
import { Charts } from "./live.tsx";
import { titleOf } from "./points.ts";
import { useCall } from "./server-state.ts";
import { tell, tellError } from "./toasts.tsx";
import { Tree, type TreeNodeData } from "./tree.tsx";

/** One disk: where it stands in its family, and what can be done with each point of it. */
export function DiskPage({ name }: { name: string }) {
  const list = useCall("vdi.list", {});
  // Space changes with every write, which no event tells of.
  const info = useCall("vdi.info", { name }, ["change", "statistics"]);
  const [selected, setSelected] = useState<number>();
  const [action, setAction] = useState<DiskAction>();
  const family = useMemo(() => {
    const newest = info.value?.entry;
    const entries = familyEntries(list.value ?? [], name);
    return entries.map((entry) => (entry.point === newest?.point ? newest : entry));
  }, [list.value, info.value, name]);
  const nodes = useMemo(() => family.map((entry) => nodeOf(entry, family)), [family]);
  const working = family.find((entry) => entry.name === name && entry.kind === "working");
  const entry = family.find(({ point }) => point === selected) ?? working ?? family[0];
  if (list.value !== undefined && entry === undefined) return <Gone name={name} />;
  return (
    <>
      <div class="heading">
        <a href="#/disks" class="back">
          Disks
        </a>
        <h1>{name}</h1>
        {working !== undefined && <span class="muted">{size(working.sizeBytes)}</span>}
        <span class="spacer" />
        {working !== undefined && (
          <>
            <button
              type="button"
              class="primary"
              onClick={() => setAction({ what: "snapshot", name })}
            >
              Snapshot
            </button>
            <button type="button" onClick={() => setAction({ what: "resize", entry: working })}>
              Resize
            </button>
            <button type="button" onClick={() => setAction({ what: "delete", entry: working })}>
              Delete
            </button>
          </>
        )}
      </div>
      <Tree
        title={`History of ${name}`}
        points={nodes}
        selected={entry?.point}
        select={setSelected}
      />
      {entry !== undefined && (
        <div class="columns">
          <PointCard entry={entry} disk={name} family={family} act={setAction} />
          <CompareCard entry={entry} family={family} key={entry.point} />
        </div>
      )}
      {info.value !== undefined && <Discarded entries={info.value.discarded} />}
      {info.value !== undefined && <Clients info={info.value} />}
      <section aria-label={`Figures of ${name}`}>
        <h2>The last hour</h2>
        <Charts exportName={name} />
      </section>
      {action !== undefined && <DiskDialog action={action} close={() => setAction(undefined)} />}
    </>
  );
}

function nodeOf(entry: VdiEntry, family: readonly VdiEntry[]): TreeNodeData {
  const { point, parent, name, kind, exclusiveBytes, createdMs } = entry;
  const isTip = kind === "working";
  const on = family.find((other) => other.point === parent);
  const isForeign = name !== family[0]?.name;
  const label = isTip || !isForeign ? titleOf(entry) : `${name}@${titleOf(entry)}`;
  const note = isTip ? "working VDI" : shortDate(createdMs);
  const what = isTip ? "it" : "a snapshot, it";
  const stands = on === undefined ? "is the first of its family" : `stands on ${titleOf(on)}`;
  const holds = `alone holds ${size(exclusiveBytes)}`;
  const description = `${what} ${stands}, ${holds}`;
  return { id: point, parent, name, isTip, label, note, description };
}

interface PointCardProps {
  entry: VdiEntry;
  disk: string;
  family: readonly VdiEntry[];
  act: (action: DiskAction) => void;
}

function PointCard({ entry, disk, family, act }: PointCardProps) {
  const { kind, name, snapId, createdMs, sizeBytes, mappedBytes, exclusiveBytes, sharedBytes } =
    entry;
  const isSnapshot = kind === "snapshot";
  const working = family.find((other) => other.name === name && other.kind === "working");
  return (
    <section class="card point" aria-label={`About ${titleOf(entry)}`}>
      <h2>
        {titleOf(entry)}{" "}
        <span class="tag">{isSnapshot ? `snapshot ${snapId}` : "working VDI"}</span>
        {name !== disk && <span class="tag">of {name}</span>}
      </h2>
      <dl>
        <dt>{isSnapshot ? "Taken" : "Since"}</dt>
        <dd>{date(createdMs)}</dd>
        <dt>Size</dt>
        <dd>
          {size(sizeBytes)}, {size(mappedBytes)} of data
        </dd>
        <dt>Holds alone</dt>
        <dd>
          {size(exclusiveBytes)} <span class="muted">returned if it is deleted</span>
        </dd>
        <dt>Shares</dt>
        <dd>{size(sharedBytes)}</dd>
        {entry.vm !== undefined && (
          <>
            <dt>Machine</dt>
            <dd>{entry.vm}</dd>
          </>
        )}
      </dl>
      <div class="buttons">
        {isSnapshot && working !== undefined && (
          <button
            type="button"
            class="primary"
            onClick={() => act({ what: "rollback", entry, working })}
          >
            Roll back to this
          </button>
        )}
        {isSnapshot && (
          <>
            <button type="button" onClick={() => act({ what: "clone", entry })}>
              Clone
            </button>
            <button type="button" onClick={() => act({ what: "deleteSnapshot", entry })}>
              Delete snapshot
            </button>
          </>
        )}
        {!isSnapshot && name !== disk && (
          <a class="button" href={`#/disk/${encodeURIComponent(name)}`}>
            Open {name}
          </a>
        )}
      </div>
    </section>
  );
}

const reasons: Record<DiscardedEntry["why"], string> = {
  rollback: "set aside by a rollback",
  delete: "deleted",
  undelete: "set aside when another was brought back",
  flatten: "set aside when it was flattened",
};

/** What can be brought back: nothing that was rolled back or deleted is gone at once. */
export function Discarded({ entries }: { entries: readonly DiscardedEntry[] }) {
  if (entries.length === 0) return null;
  const bringBack = async ({ name, point }: DiscardedEntry) => {
    try {
      await call("vdi.undelete", { name, point });
      tell(`${name} is as it was.`);
    } catch (error) {
      tellError(error);
    }
  };
  return (
    <section class="card" aria-label="What can be brought back">
      <h2>Set aside</h2>
      <ul class="lines">
        {entries.map((entry) => (
          <li key={entry.point}>
            <span>
              <strong>{entry.name}</strong> {reasons[entry.why]} {shortDate(entry.discardedMs)}
              <span class="muted">
                {" "}
                holds {size(entry.exclusiveBytes)}, kept until {shortDate(entry.purgeMs)}
              </span>
            </span>
            <button type="button" onClick={() => bringBack(entry)}>
              Bring back
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Clients({ info: { clients } }: { info: CallOutput<"vdi.info"> }) {
  if (clients.length === 0) return null;
  return (
    <section class="card" aria-label="Clients of this disk">
      <h2>{plural(clients.length, "client")}</h2>
      <ul class="lines">
        {clients.map(({ protocol, peer, readOnly }) => (
          <li key={`${protocol} ${peer}`}>
            <span>
              {peer} <span class="muted">over {protocol}</span>
              {readOnly && <span class="tag">read-only</span>}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Gone({ name }: { name: string }) {
  const discarded = useCall("vdi.discarded", { name });
  return (
    <>
      <div class="heading">
        <a href="#/disks" class="back">
          Disks
        </a>
        <h1>{name}</h1>
      </div>
      <div class="card">
        <h2>There is no disk of that name</h2>
        <p class="muted">It was deleted, or never was.</p>
      </div>
      <Discarded entries={discarded.value ?? []} />
    </>
  );
}
