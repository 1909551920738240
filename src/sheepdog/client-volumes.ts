import { KelpieError } from "../base/errors.ts";
import type { SheepdogClient } from "./client.ts";
import { isRefused, LostAnswerError } from "./client-errors.ts";
import { resentMax } from "./client-limits.ts";
import { listPointsOf } from "./client-list.ts";
import { RemoteVolume } from "./client-volume.ts";
import { result } from "./results.ts";
import type { InodeHeader } from "./wire-inode.ts";

interface OpenVolume {
  volume: Promise<RemoteVolume>;
  users: number;
}

/** The working VDIs that are open, one volume each, whatever the number of its users. */
export class RemoteVolumes {
  readonly #client: SheepdogClient;
  readonly #open = new Map<string, OpenVolume>();

  constructor(components: { client: SheepdogClient }) {
    this.#client = components.client;
  }

  /** Runs `action` with the volume. */
  async using<T>(name: string, action: (volume: RemoteVolume) => Promise<T>): Promise<T> {
    const { volume, close } = await this.open(name);
    try {
      return await action(volume);
    } finally {
      await close();
    }
  }

  /** The one that somebody has open, if somebody has. */
  async find(name: string): Promise<RemoteVolume | undefined> {
    return await this.#open.get(name)?.volume;
  }

  async open(name: string): Promise<{ volume: RemoteVolume; close(): Promise<void> }> {
    let entry = this.#open.get(name);
    if (entry === undefined) {
      entry = { volume: this.#lockAndOpen(name), users: 0 };
      this.#open.set(name, entry);
    }
    const opened = entry;
    opened.users++;
    try {
      return { volume: await opened.volume, close: () => this.#close(name, opened) };
    } catch (error) {
      this.#forget(name, opened);
      throw error;
    }
  }

  async #lockAndOpen(name: string): Promise<RemoteVolume> {
    const client = this.#client;
    await this.#lock(name);
    const changeBases = async () => (await listPointsOf(client, name)).flatMap(basesOf);
    return await RemoteVolume.open(name, { client, changeBases });
  }

  /** Where the cluster has no locks this only looks it up. */
  async #lock(name: string, attempt = 1): Promise<void> {
    try {
      await this.#client.lock({ name });
    } catch (error) {
      // A lock that nobody heard of goes with its connection, or is reported as somebody else's.
      const isLost = error instanceof LostAnswerError && attempt < resentMax;
      if (isLost) return await this.#lock(name, attempt + 1);
      if (!isRefused(error, result.vdiLocked)) throw error;
      throw new KelpieError("busy", `disk "${name}" is locked in the cluster`, {
        cause: error,
        remedy: `if nobody uses it: dog vdi lock unlock ${name}`,
      });
    }
  }

  async #close(name: string, entry: OpenVolume): Promise<void> {
    const { vid } = await entry.volume;
    this.#forget(name, entry);
    // Never an error: a lock that is gone, or never was, is all the same.
    if (entry.users === 0) await this.#client.release(name, vid);
  }

  #forget(name: string, entry: OpenVolume): void {
    entry.users--;
    if (entry.users === 0 && this.#open.get(name) === entry) this.#open.delete(name);
  }
}

/** How a snapshot is named where changes since it are asked for. */
export function basesOf({ tag, snapId, snapshotMs }: InodeHeader): string[] {
  if (snapshotMs === 0) return [];
  return [tag === "" ? `#${snapId}` : tag];
}
