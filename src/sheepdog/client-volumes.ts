import { isKelpieError, KelpieError } from "../base/errors.ts";
import { shellCommand } from "../base/shell-words.ts";
import type { SheepdogClient } from "./client.ts";
import { readClusterInfo } from "./client-cluster.ts";
import { isRefused, LostAnswerError } from "./client-errors.ts";
import { resentMax } from "./client-limits.ts";
import { listPointsOf } from "./client-list.ts";
import { RemoteVolume } from "./client-volume.ts";
import { storeName as kelpieStore } from "./cluster.ts";
import { result } from "./results.ts";
import type { InodeHeader } from "./wire-inode.ts";

interface OpenVolume {
  volume: Promise<RemoteVolume>;
  /** When it is open. */
  opened: RemoteVolume | undefined;
  users: number;
}

/** The working VDIs that are open, one volume each, whatever the number of its users. */
export class RemoteVolumes {
  readonly #client: SheepdogClient;
  readonly #open = new Map<string, OpenVolume>();

  constructor(components: { client: SheepdogClient }) {
    this.#client = components.client;
    this.#client.reconnected = () => this.#lockAgain();
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
      entry = { volume: this.#lockAndOpen(name), opened: undefined, users: 0 };
      this.#open.set(name, entry);
    }
    const opened = entry;
    opened.users++;
    try {
      opened.opened = await opened.volume;
      return { volume: opened.opened, close: () => this.#close(name, opened) };
    } catch (error) {
      this.#forget(name, opened);
      throw error;
    }
  }

  async #lockAndOpen(name: string): Promise<RemoteVolume> {
    const client = this.#client;
    await this.#lock(name);
    const changeBases = async () => (await listPointsOf(client, name)).flatMap(basesOf);
    const moved = (volume: RemoteVolume, frozen: number | undefined) => this.#moved(volume, frozen);
    return await RemoteVolume.open(name, { client, changeBases, moved });
  }

  /** The original's locks are of vids: the new one is anybody's, and what is a snapshot now stays locked. */
  async #moved(volume: RemoteVolume, frozen: number | undefined): Promise<void> {
    const { name } = volume;
    try {
      await this.#lock(name);
    } catch (error) {
      if (!isKelpieError(error, "busy")) throw error;
      volume.retire(lockIsLost(name, error));
    }
    if (frozen !== undefined) await this.#release(name, frozen);
  }

  /** A server of Kelpie's frees a lock with its connection. The original keeps it, and refuses us. */
  async #lockAgain(): Promise<void> {
    for (const [name, { opened }] of this.#open) {
      try {
        await this.#client.lock({ name }, { first: true });
      } catch (error) {
        // Of anything else the requests that wait will hear.
        if (!isRefused(error, result.vdiLocked)) continue;
        const info = await readClusterInfo(this.#client, { first: true }).catch(() => undefined);
        if (opened === undefined || info?.storeName !== kelpieStore) continue;
        const lost = lockIsLost(name, error);
        this.#client.lose(opened.vid, lost);
        opened.retire(lost);
      }
    }
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
        remedy: `if nobody uses it: ${shellCommand("dog", "vdi", "lock", "unlock", name)}`,
      });
    }
  }

  async #close(name: string, entry: OpenVolume): Promise<void> {
    const { vid } = await entry.volume;
    this.#forget(name, entry);
    if (entry.users === 0) await this.#release(name, vid);
  }

  async #release(name: string, vid: number): Promise<void> {
    // Whoever closes a disk can do nothing about it; and a lock that never was is all the same.
    await this.#client.release(name, vid).catch(() => {});
  }

  #forget(name: string, entry: OpenVolume): void {
    entry.users--;
    if (entry.users === 0 && this.#open.get(name) === entry) this.#open.delete(name);
  }
}

function lockIsLost(name: string, cause: unknown): KelpieError {
  return new KelpieError("busy", `disk "${name}" was locked by somebody else meanwhile`, {
    cause,
    remedy: "open it again when it is free; kelpie vdi lock list, or dog vdi lock list, says whose",
  });
}

/** How a snapshot is named where changes since it are asked for. */
export function basesOf({ tag, snapId, snapshotMs }: InodeHeader): string[] {
  if (snapshotMs === 0) return [];
  return [tag === "" ? `#${snapId}` : tag];
}
