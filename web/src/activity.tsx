import type { ChangeEvent, ConnectionEntry, JobEntry } from "../../src/control/server-shapes.ts";
import { call } from "./api.ts";
import { Discarded } from "./disk.tsx";
import { count, shortDate, size, time } from "./format.ts";
import { useCall } from "./server-state.ts";
import { tell, tellError } from "./toasts.tsx";

export function ActivityPage() {
  const discarded = useCall("vdi.discarded", {});
  return (
    <>
      <div class="heading">
        <h1>Activity</h1>
      </div>
      <StoreCard />
      <Jobs />
      <Connections />
      <Discarded entries={discarded.value ?? []} />
      <Changes />
    </>
  );
}

function StoreCard() {
  const { value: info } = useCall("store.info", {}, ["change", "statistics"]);
  const { value: running } = useCall("server.info", {}, []);
  if (info === undefined) return null;
  const { usedBytes, liveBytes, freeBytes, reserveBytes } = info;
  const all = Math.max(1, usedBytes + freeBytes);
  const start = async (name: "store.check" | "store.clean") => {
    try {
      await call("job.start", { call: name });
      tell(name === "store.check" ? "Checking everything." : "Returning space.");
    } catch (error) {
      tellError(error);
    }
  };
  const dead = Math.max(0, usedBytes - liveBytes);
  return (
    <section class="card" aria-label="Store">
      <h2>
        Store <span class={`tag ${info.state === "full" ? "bad" : "good"}`}>{info.state}</span>
      </h2>
      <div
        class="bar"
        role="img"
        aria-label={`${size(liveBytes)} live, ${size(dead)} to reclaim, ${size(freeBytes)} free`}
      >
        <span class="bar-live" style={{ width: `${(100 * liveBytes) / all}%` }} />
        <span class="bar-dead" style={{ width: `${(100 * dead) / all}%` }} />
      </div>
      <p class="muted">
        {size(liveBytes)} live, {size(dead)} to reclaim, {size(freeBytes)} free of which{" "}
        {size(reserveBytes)} are kept back so that a full store can be freed. {count(info.segments)}{" "}
        segments, {count(info.points)} points.
      </p>
      {running !== undefined && (
        <p class="muted">
          {running.store}, Kelpie {running.version}, since {shortDate(running.startedMs)}. NBD on{" "}
          {running.nbd.join(", ") || "nothing"}
          {running.sheepdog.length > 0 && <>; Sheepdog on {running.sheepdog.join(", ")}</>}.
        </p>
      )}
      <div class="buttons">
        <button type="button" onClick={() => start("store.check")}>
          Check everything
        </button>
        <button type="button" onClick={() => start("store.clean")}>
          Return space now
        </button>
      </div>
    </section>
  );
}

function Jobs() {
  const { value: jobs = [] } = useCall("job.list", {}, ["job"]);
  const shown = jobs.toReversed().slice(0, 20);
  return (
    <section class="card" aria-label="Jobs">
      <h2>Jobs</h2>
      {shown.length === 0 && <p class="muted">Nothing long is under way.</p>}
      <ul class="lines">
        {shown.map((job) => (
          <Job job={job} key={job.id} />
        ))}
      </ul>
    </section>
  );
}

function Job({ job }: { job: JobEntry }) {
  const { id, call: name, state, progress, startedMs, error } = job;
  const isRunning = state === "running";
  const cancel = () => call("job.cancel", { id }).catch(tellError);
  return (
    <li>
      <span>
        <strong>{name}</strong> {subjectOf(job)}{" "}
        <span class={`tag ${state === "failed" ? "bad" : state === "done" ? "good" : ""}`}>
          {state}
        </span>{" "}
        <span class="muted">{time(startedMs)}</span>
        {state === "failed" && error !== undefined && <small class="error">{error.message}</small>}
        {state === "done" && <small class="muted">{resultOf(job)}</small>}
      </span>
      {isRunning && (
        <progress
          aria-label={`Progress of ${name}`}
          max={Math.max(1, progress?.totalBytes ?? 1)}
          {...(progress === null ? {} : { value: progress.doneBytes })}
        />
      )}
      {isRunning && (
        <button type="button" onClick={cancel}>
          Cancel
        </button>
      )}
    </li>
  );
}

function subjectOf({ input }: JobEntry): string {
  const { name } = (input ?? {}) as { name?: unknown };
  return typeof name === "string" ? name : "";
}

/** What a check found, what cleaning returned. */
function resultOf({ result }: JobEntry): string {
  const found = (result ?? {}) as Partial<Record<string, unknown>>;
  if (Array.isArray(found.findings)) {
    const damage = found.findings.length;
    const what =
      damage === 0 ? "nothing is wrong" : `${damage} findings: kelpie store check lists them`;
    return `${size(Number(found.checkedBytes ?? 0))} read, ${what}`;
  }
  if (typeof found.freedBytes === "number") return `${size(found.freedBytes)} returned`;
  return "";
}

function Connections() {
  const { value: all = [] } = useCall("server.connections", {}, ["statistics", "change"]);
  return (
    <section class="card" aria-label="Connected clients">
      <h2>Connected clients</h2>
      {all.length === 0 && <p class="muted">Nobody is connected.</p>}
      <ul class="lines">
        {all.map((connection, index) => (
          <Connection connection={connection} key={`${connection.peer} ${index}`} />
        ))}
      </ul>
    </section>
  );
}

function Connection({ connection }: { connection: ConnectionEntry }) {
  const {
    protocol,
    peer,
    export: name,
    readOnly,
    features,
    requests,
    requestsInFlight,
  } = connection;
  return (
    <li>
      <span>
        <strong>{name || "–"}</strong> {peer} <span class="tag">{protocol}</span>
        {readOnly && <span class="tag">read-only</span>}{" "}
        <span class="muted">{features.join(", ")}</span>
      </span>
      <span class="muted">
        {count(requests)} requests, {requestsInFlight} in flight
      </span>
    </li>
  );
}

const verbs: Partial<Record<string, string>> = {
  create: "made",
  snapshot: "snapshot",
  rollback: "rolled back",
  undelete: "brought back",
  flatten: "flattened",
  delete: "deleted",
  deleteSnapshot: "snapshot deleted:",
  purge: "given up for good",
  vm: "machine changed",
  forgetVm: "machine forgotten",
};

function Changes() {
  const { value: changes = [] } = useCall("server.changes", {});
  const shown: ChangeEvent[] = changes.toReversed().slice(0, 50);
  return (
    <section class="card" aria-label="Events">
      <h2>Events</h2>
      {shown.length === 0 && <p class="muted">Nothing has changed since the server was started.</p>}
      <ol class="lines">
        {shown.map(({ number, atMs, what, name, detail }) => (
          <li key={number}>
            <span>
              <strong>{name || "a disk"}</strong> {verbs[what] ?? what} {detail}
            </span>
            <time class="muted">{time(atMs)}</time>
          </li>
        ))}
      </ol>
    </section>
  );
}
