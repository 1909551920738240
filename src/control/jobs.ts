import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { Clock } from "../host/clock.ts";
import { type CallContext, type CallName, type Control, calls, type Progress } from "./calls.ts";
import type { JobEntry, ServerEvent } from "./server-shapes.ts";

/** Jobs at once that somebody began and does not wait for: each reads or writes a disk. */
export const runningMax = 16;
/** Ended jobs that are kept, so that whoever began them learns how they went. */
export const endedMax = 100;
/** Progress is told this often at most. */
const tellMs = 200;

interface Job {
  entry: JobEntry;
  abort: AbortController;
  toldMs: number;
}

/** Calls of kind "work": what runs, how far it is, how it ended. */
export class Jobs {
  readonly #control: Control;
  readonly #clock: Clock;
  readonly #tell: (event: ServerEvent) => void;
  readonly #jobs = new Map<number, Job>();
  #number = 0;

  constructor(components: {
    control: Control;
    clock: Clock;
    tell: (event: ServerEvent) => void;
  }) {
    this.#control = components.control;
    this.#clock = components.clock;
    this.#tell = components.tell;
  }

  /** Begins it; "busy" if too many run. */
  start(call: string, input: unknown): JobEntry {
    if (!isWork(call)) {
      throw new KelpieError("invalid", `${call} is no call that can run as a job`, {
        remedy: `such calls are ${workCalls().join(", ")}`,
      });
    }
    const parsed = calls[call].input.safeParse(input);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      const where = issue?.path.length === 0 ? "" : `${issue?.path.join(".")}: `;
      throw new KelpieError("invalid", `${call}: ${where}${issue?.message ?? "not a valid input"}`);
    }
    if (this.list().filter(({ state }) => state === "running").length >= runningMax) {
      throw new KelpieError("busy", `${runningMax} jobs run already`, {
        remedy: "wait for one, or cancel one",
      });
    }
    const job = this.#begin(call, input);
    // How it ended is in its entry.
    void this.#run(job, call, {}).catch(() => {});
    return { ...job.entry };
  }

  /** A call of this kind that somebody waits for; it is in the list like the others. */
  run(call: CallName, input: unknown, context: CallContext): Promise<unknown> {
    return this.#run(this.#begin(call, input), call, context);
  }

  list(): JobEntry[] {
    return [...this.#jobs.values()].map(({ entry }) => ({ ...entry }));
  }

  info(id: number): JobEntry {
    return { ...this.#find(id).entry };
  }

  cancel(id: number): JobEntry {
    const job = this.#find(id);
    if (job.entry.state === "running") {
      job.abort.abort(new KelpieError("closed", `job ${id} was cancelled`));
    }
    return { ...job.entry };
  }

  /** Tells all of them to stop. */
  close(): void {
    const reason = new KelpieError("closed", "the server is shutting down");
    for (const { abort } of this.#jobs.values()) abort.abort(reason);
  }

  #find(id: number): Job {
    const job = this.#jobs.get(id);
    if (job !== undefined) return job;
    throw new KelpieError("not-found", `there is no job ${id}`);
  }

  #begin(call: string, input: unknown): Job {
    const entry: JobEntry = {
      id: ++this.#number,
      call,
      input,
      state: "running",
      startedMs: this.#clock.nowMs(),
      endedMs: null,
      progress: null,
    };
    const job = { entry, abort: new AbortController(), toldMs: 0 };
    this.#jobs.set(entry.id, job);
    this.#forgetOld();
    this.#tell({ kind: "job", job: { ...entry } });
    return job;
  }

  async #run(job: Job, call: CallName, context: CallContext): Promise<unknown> {
    const { entry, abort } = job;
    const signals = [abort.signal, ...(context.signal === undefined ? [] : [context.signal])];
    const signal = AbortSignal.any(signals);
    const progress = (said: Progress): void => {
      entry.progress = { doneBytes: said.doneBytes, totalBytes: said.totalBytes };
      context.progress?.(said);
      this.#tellProgress(job);
    };
    try {
      const result = await this.#control.call(call, entry.input as never, { signal, progress });
      entry.state = "done";
      entry.result = result;
      return result;
    } catch (error) {
      entry.state = signal.aborted ? "cancelled" : "failed";
      entry.error = errorEntry(error);
      throw error;
    } finally {
      entry.endedMs = this.#clock.nowMs();
      this.#tell({ kind: "job", job: { ...entry } });
    }
  }

  #tellProgress(job: Job): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - job.toldMs < tellMs) return;
    job.toldMs = nowMs;
    this.#tell({ kind: "job", job: { ...job.entry } });
  }

  #forgetOld(): void {
    const ended = [...this.#jobs.values()].filter(({ entry }) => entry.state !== "running");
    for (const { entry } of ended.slice(0, Math.max(0, ended.length - endedMax))) {
      this.#jobs.delete(entry.id);
    }
  }
}

export function workCalls(): CallName[] {
  return (Object.keys(calls) as CallName[]).filter((name) => calls[name].kind === "work");
}

function isWork(call: string): call is CallName {
  return (workCalls() as string[]).includes(call);
}

function errorEntry(error: unknown): NonNullable<JobEntry["error"]> {
  if (!isKelpieError(error)) return { code: "internal", message: messageOf(error) };
  const { code, message, remedy } = error;
  return remedy === undefined ? { code, message } : { code, message, remedy };
}
