import { settled } from "../base/completion.ts";
import { KelpieError } from "../base/errors.ts";
import type { SheepdogClient } from "./client.ts";
import { isRefused } from "./client-errors.ts";
import { result } from "./results.ts";
import { encodeInodeEntries, inodeEntriesAt } from "./wire-inode.ts";
import { inodeOid } from "./wire-oid.ts";

/**
 * Whether the vid was still the working VDI's when its inode had been written. If it was not, a snapshot
 * was taken meanwhile, and the new working VDI may lack the entry.
 */
export type EntryOutcome = "current" | "moved";

interface WaitingEntry {
  vid: number;
  index: number;
  value: number;
  resolve(outcome: EntryOutcome): void;
  reject(error: unknown): void;
}

/** Entries written in one round: more than a guest has requests in flight. */
const roundMax = 1024;

/**
 * Writes entries of a working VDI's `data_vdi_id`. What is asked for while a round is under way goes with
 * the next one, so many first writes cost one question whether the VDI is still the working one.
 *
 * A request spans only entries that it changes: a server counts references anew for all it spans, and
 * would give up what others still share. So neighbours are joined when all of them change, and one that
 * becomes a hole always goes alone; several at once are how a VDI is deleted.
 */
export class EntryWriter {
  readonly #name: string;
  readonly #client: SheepdogClient;
  #waiting: WaitingEntry[] = [];
  #running = false;

  constructor(settings: { name: string }, components: { client: SheepdogClient }) {
    this.#name = settings.name;
    this.#client = components.client;
  }

  /** `value` 0 makes a hole. Only one for an index at a time. */
  write(vid: number, index: number, value: number): Promise<EntryOutcome> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ vid, index, value, resolve, reject });
      if (this.#running) return;
      this.#running = true;
      // Later in this turn: requests made in one go are one round.
      queueMicrotask(() => void this.#run());
    });
  }

  /** Throws "io" if the name has no working VDI. */
  async isWorking(vid: number): Promise<boolean> {
    try {
      return (await this.#client.lookup({ name: this.#name })).vid === vid;
    } catch (error) {
      if (!isRefused(error, result.noVdi)) throw error;
      throw new KelpieError("io", `disk "${this.#name}" was deleted by another client`, {
        cause: error,
      });
    }
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const vid = this.#waiting[0]?.vid ?? 0;
      const round = this.#waiting.filter((entry) => entry.vid === vid).slice(0, roundMax);
      const taken = new Set(round);
      this.#waiting = this.#waiting.filter((entry) => !taken.has(entry));
      try {
        await this.#writeRound(vid, round);
      } catch (error) {
        for (const entry of round) entry.reject(error); // whoever is settled already stays so
      }
    }
    this.#running = false;
  }

  async #writeRound(vid: number, round: WaitingEntry[]): Promise<void> {
    const holes = round.filter(({ value }) => value === 0);
    // A hole made in the inode of a snapshot would damage it, and inodes of snapshots are not protected.
    const mayDrop = holes.length === 0 || (await this.isWorking(vid));
    if (!mayDrop) for (const entry of holes) entry.resolve("moved");
    const written: WaitingEntry[] = [];
    const runs = [
      ...runsOf(round.filter(({ value }) => value !== 0)),
      ...(mayDrop ? holes.map((entry) => [entry]) : []),
    ];
    await settled(
      runs.map(async (run) => {
        try {
          await this.#writeRun(vid, run);
          written.push(...run);
        } catch (error) {
          // A server of Kelpie's refuses a hole in what has become a snapshot since the question above.
          const isFrozen = isRefused(error, result.readOnly);
          for (const entry of run) isFrozen ? entry.resolve("moved") : entry.reject(error);
        }
      }),
    );
    if (written.length === 0) return;
    const outcome = (await this.isWorking(vid)) ? "current" : "moved";
    for (const entry of written) entry.resolve(outcome);
  }

  async #writeRun(vid: number, run: readonly WaitingEntry[]): Promise<void> {
    await this.#client.writeObject({
      oid: inodeOid(vid),
      offset: inodeEntriesAt + 4 * (run[0]?.index ?? 0),
      chunks: [encodeInodeEntries(run.map(({ value }) => value))],
    });
  }
}

/** By index, neighbours together. */
function runsOf(entries: readonly WaitingEntry[]): WaitingEntry[][] {
  const runs: WaitingEntry[][] = [];
  for (const entry of [...entries].sort((a, b) => a.index - b.index)) {
    const last = runs.at(-1);
    if (last !== undefined && last.at(-1)?.index === entry.index - 1) last.push(entry);
    else runs.push([entry]);
  }
  return runs;
}
