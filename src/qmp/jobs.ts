import { z } from "zod";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Timers } from "../host/timers.ts";
import type { QmpClient } from "./client.ts";
import { parseAnswer } from "./messages.ts";

/**
 * Jobs (QEMU's qapi/job.json): a command begins one and is answered at once; the job ends in the state
 * "concluded", with an error or without, and stays there until it is dismissed.
 */
const jobInfo = z.object({
  id: z.string(),
  type: z.string(),
  status: z.string(),
  error: z.string().optional(),
});
export type JobInfo = z.infer<typeof jobInfo>;

export interface JobRequest {
  /** The command that begins it: "snapshot-save". */
  command: string;
  /** Its arguments, without the job's id. */
  input: Record<string, unknown>;
  /** Must be that of no other job. */
  id: string;
}

/**
 * Events may be missed by who connects later, so a job is also asked for now and then. While it saves or
 * loads memory, QEMU answers nothing else.
 */
const askAgainMs = 200;
/** How long a job may take: it stands still, with the guest, while the storage does. */
const jobDefaultMs = 10 * 60_000;

/** Begins a job and waits for its end. Throws "io" with what went wrong in it, "closed", "busy". */
export async function runJob(
  client: QmpClient,
  request: JobRequest,
  components: { timers: Timers },
  timeoutMs = jobDefaultMs,
): Promise<void> {
  const { command, input, id } = request;
  // It may answer only when the job is done.
  await client.execute(command, { "job-id": id, ...input }, { timeoutMs });
  await awaitJob(client, id, components, timeoutMs);
}

/** Waits for the end of a job that somebody began, and dismisses it. */
export async function awaitJob(
  client: QmpClient,
  id: string,
  { timers }: { timers: Timers },
  timeoutMs = jobDefaultMs,
): Promise<void> {
  let wake = Promise.withResolvers<void>();
  const forget = client.onEvent((event) => {
    if (event.name === "JOB_STATUS_CHANGE" && event.data.id === id) wake.resolve();
  });
  let late = false;
  const limit = timers.after(timeoutMs, () => {
    late = true;
    wake.resolve();
  });
  try {
    for (;;) {
      const jobs = await queryJobs(client, timeoutMs);
      const job = jobs.find((one) => one.id === id);
      if (job === undefined) throw new KelpieError("io", `QEMU does not know a job ${id} any more`);
      if (job.status === "concluded") {
        await client.execute("job-dismiss", { id });
        if (job.error !== undefined) {
          throw new KelpieError("io", `QEMU: ${job.type}: ${job.error}`);
        }
        return;
      }
      if (late)
        throw new KelpieError("busy", `QEMU: ${job.type} takes longer than ${timeoutMs} ms`);
      const again = timers.after(askAgainMs, () => wake.resolve());
      await Promise.race([wake.promise, client.closed]);
      again.cancel();
      wake = Promise.withResolvers<void>();
    }
  } finally {
    limit.cancel();
    forget();
  }
}

export async function queryJobs(client: QmpClient, timeoutMs: number): Promise<JobInfo[]> {
  const answer = await client.execute("query-jobs", undefined, { timeoutMs });
  return parseAnswer(z.array(jobInfo), answer, "query-jobs");
}

/** Waits for jobs that an earlier connection began, by the beginning of their ids; says how they ended. */
export async function settleJobs(
  client: QmpClient,
  prefix: string,
  components: { timers: Timers },
): Promise<void> {
  for (const { id } of await queryJobs(client, jobDefaultMs)) {
    if (!id.startsWith(prefix)) continue;
    try {
      await awaitJob(client, id, components);
    } catch (error) {
      // Its failure was for whoever began it; what it left behind is looked at by who settles.
      if (!isKelpieError(error, "io")) throw error;
    }
  }
}
