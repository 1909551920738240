import assert from "node:assert/strict";
import { test } from "node:test";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import { createNodeClock } from "../host/node/clock.ts";
import type { CallContext, Control } from "./calls.ts";
import { endedMax, Jobs, runningMax } from "./jobs.ts";
import type { JobEntry, ServerEvent } from "./server-shapes.ts";

/** Jobs over work that the test ends by hand. */
function start() {
  const told: ServerEvent[] = [];
  const begun: { context: CallContext; end: PromiseWithResolvers<unknown> }[] = [];
  const control = {
    call: (_name: string, _input: unknown, context: CallContext) => {
      const end = Promise.withResolvers<unknown>();
      context.signal?.addEventListener("abort", () => end.reject(context.signal?.reason));
      begun.push({ context, end });
      return end.promise;
    },
  } as Control;
  const clock = createNodeClock();
  const jobs = new Jobs({ control, clock, tell: (event) => told.push(event) });
  return { jobs, told, begun };
}

async function ended(jobs: Jobs, id: number): Promise<JobEntry> {
  for (let turn = 0; turn < 100 && jobs.info(id).state === "running"; turn++) {
    await Promise.resolve();
  }
  return jobs.info(id);
}

test("a job says how far it is, and then what came out", async () => {
  const { jobs, told, begun } = start();
  const { id, state } = jobs.start("store.clean", {});
  assert.equal(state, "running");
  begun[0]?.context.progress?.({ doneBytes: 3, totalBytes: 9 });
  assert.deepEqual(jobs.info(id).progress, { doneBytes: 3, totalBytes: 9 });
  begun[0]?.end.resolve({ freedBytes: 1 });
  const entry = await ended(jobs, id);
  assert.deepEqual([entry.state, entry.result], ["done", { freedBytes: 1 }]);
  assert.ok((entry.endedMs ?? 0) >= entry.startedMs);
  const states = told.map((event) => event.kind === "job" && event.job.state);
  assert.deepEqual([states.at(0), states.at(-1)], ["running", "done"]);
});

test("a job that fails keeps why, with the remedy", async () => {
  const { jobs, begun } = start();
  const { id } = jobs.start("store.check", { repair: false });
  begun[0]?.end.reject(new KelpieError("io", "no more", { remedy: "try again" }));
  const { state, error } = await ended(jobs, id);
  assert.equal(state, "failed");
  assert.deepEqual(error, { code: "io", message: "no more", remedy: "try again" });
});

test("a cancelled job is told to stop, and says that it was cancelled", async () => {
  const { jobs } = start();
  const { id } = jobs.start("store.clean", {});
  jobs.cancel(id);
  assert.equal((await ended(jobs, id)).state, "cancelled");
  assert.equal(jobs.cancel(id).state, "cancelled", "once more is nothing");
  assert.throws(
    () => jobs.info(99),
    (error) => isKelpieError(error, "not-found"),
  );
});

test("work that somebody waits for is in the list, and is theirs to stop", async () => {
  const { jobs, begun } = start();
  const gone = new AbortController();
  const seen: number[] = [];
  const progress = ({ doneBytes }: { doneBytes: number }) => seen.push(doneBytes);
  const work = jobs.run("store.clean", {}, { signal: gone.signal, progress });
  begun[0]?.context.progress?.({ doneBytes: 5, totalBytes: 9 });
  assert.deepEqual(seen, [5]);
  gone.abort(new KelpieError("closed", "the client went away"));
  await assert.rejects(work, /went away/);
  assert.deepEqual(
    jobs.list().map(({ state }) => state),
    ["cancelled"],
  );
});

test("only work is a job, with an input that its call takes, and not too many at once", async () => {
  const { jobs, begun } = start();
  assert.throws(() => jobs.start("vdi.list", {}), /vdi\.list is no call that can run as a job/);
  assert.throws(() => jobs.start("constructor", {}), /no call/);
  assert.throws(() => jobs.start("vdi.check", { name: "" }), /vdi\.check: name/);
  for (let at = 0; at < runningMax; at++) jobs.start("store.clean", {});
  assert.throws(
    () => jobs.start("store.clean", {}),
    (error) => isKelpieError(error, "busy"),
  );
  begun[0]?.end.resolve({});
  await ended(jobs, 1);
  assert.equal(jobs.start("store.clean", {}).id, runningMax + 1);
});

test("of those that ended the last are kept", async () => {
  const { jobs, begun } = start();
  for (let id = 1; id <= endedMax + 5; id++) {
    jobs.start("store.clean", {});
    begun.at(-1)?.end.resolve({});
    await ended(jobs, id);
  }
  jobs.start("store.clean", {});
  assert.equal(jobs.list().length, endedMax + 1);
  assert.equal(jobs.list()[0]?.id, 6);
});
