import { KelpieError } from "../../base/errors.ts";
import { type ObjectClient, ObjectError } from "./objects.ts";

/** Participants of a shared lock, as many as the original has. */
const holdersMax = 31;

interface Holder {
  /** Who asked for it, for people. */
  owner: ObjectClient;
  /**
   * Connections that keep it alive. QEMU asks on a connection of its own, which it closes at once,
   * beside the one that it works with: so it may be any of the same host, until one does I/O on the
   * disk.
   */
  connections: Set<ObjectClient>;
  isKnown: boolean;
}

interface Lock {
  shared: boolean;
  /** Of a disk's: the number that its working VDI had when it was taken. */
  since: number;
  holders: Holder[];
}

/**
 * Sheepdog's locks. One of a working VDI is its name's, so that it stays over snapshots and rollbacks; a
 * snapshot's is its vid's. They are in memory: when the server stops, all connections are gone.
 */
export class VidLocks {
  /** Off, nothing is ever locked. */
  isOn = false;
  readonly #locks = new Map<string | number, Lock>();
  readonly #connected = new Set<ObjectClient>();

  /** Who has it, for a message. */
  ownerOf(key: string | number): ObjectClient | undefined {
    return this.#locks.get(key)?.holders[0]?.owner;
  }

  holdersOf(key: string | number): {
    state: "unlocked" | "locked" | "shared";
    owners: ObjectClient[];
  } {
    const lock = this.#locks.get(key);
    if (lock === undefined) return { state: "unlocked", owners: [] };
    const owners = lock.holders.map(({ owner }) => owner);
    return { state: lock.shared ? "shared" : "locked", owners };
  }

  /** By name of a disk or vid of a snapshot. */
  all(): { key: string | number; shared: boolean; owners: ObjectClient[] }[] {
    return [...this.#locks].map(([key, { shared, holders }]) => {
      return { key, shared, owners: holders.map(({ owner }) => owner) };
    });
  }

  /** `since` is the number that the working VDI's snapshot would get. Throws "locked" naming who has it. */
  take(
    key: string | number,
    client: ObjectClient,
    { shared, since }: { shared: boolean; since: number },
  ): void {
    if (!this.isOn) return;
    const lock = this.#locks.get(key);
    const isOwn = lock?.holders.some(({ owner }) => owner === client) === true;
    if (lock !== undefined && isOwn && !lock.shared && !shared) {
      lock.since = since; // it has gone on to a later working VDI
      return;
    }
    const isShareable = lock?.shared === true && shared && lock.holders.length < holdersMax;
    if (lock !== undefined && !isShareable) {
      throw new ObjectError("locked", `locked by ${this.ownerOf(key)?.peer}`);
    }
    const taken = this.#busyElsewhere();
    const connections = new Set([...this.#connected].filter((one) => one.host === client.host));
    for (const one of taken) connections.delete(one);
    connections.add(client);
    const holder: Holder = { owner: client, connections, isKnown: false };
    if (lock === undefined) this.#locks.set(key, { shared, since, holders: [holder] });
    else lock.holders.push(holder);
  }

  /**
   * By whomever, as `dog` breaks a lock; of a shared one only what the client has in it. Says whether
   * there was one.
   */
  release(key: string | number, client: ObjectClient): boolean {
    const lock = this.#locks.get(key);
    if (lock === undefined) return false;
    if (lock.holders.length > 1) {
      const leaving = holderOf(lock.holders, client);
      lock.holders = lock.holders.filter((holder) => holder !== leaving);
    } else this.#locks.delete(key);
    return true;
  }

  /** By the vid of a snapshot: of who took the lock when that was the working VDI, and knows no later one. */
  releaseOld(name: string, client: ObjectClient, snapId: number): void {
    const lock = this.#locks.get(name);
    if (lock === undefined || snapId < lock.since) return;
    if (lock.holders.some(({ owner }) => owner.host === client.host)) this.release(name, client);
  }

  /** The lock is nobody's, whoever had it; says who did. */
  break(key: string | number): ObjectClient[] {
    const { owners } = this.holdersOf(key);
    this.#locks.delete(key);
    return owners;
  }

  /** For who opens the disk over another protocol. Throws "busy". */
  mustBeFree(name: string): void {
    const owner = this.ownerOf(name);
    if (owner === undefined || !this.isOn) return;
    throw new KelpieError("busy", `disk "${name}" is locked by ${owner.peer}, over Sheepdog`, {
      remedy: "Stop that client first; `kelpie vdi lock break` breaks a lock.",
    });
  }

  connected(client: ObjectClient): void {
    this.#connected.add(client);
  }

  disconnected(client: ObjectClient): void {
    this.#connected.delete(client);
    for (const [key, lock] of this.#locks) {
      for (const { connections } of lock.holders) connections.delete(client);
      lock.holders = lock.holders.filter(({ connections }) => connections.size > 0);
      if (lock.holders.length === 0) this.#locks.delete(key);
    }
  }

  /**
   * The connection works with this working VDI: so it is not another's. Objects of a snapshot say nothing:
   * every disk that stands on it has them.
   */
  used(name: string, client: ObjectClient): void {
    for (const [at, lock] of this.#locks) {
      for (const holder of lock.holders) {
        if (!holder.connections.has(client)) continue;
        if (at !== name) {
          // Not the last one, so that a lock is not lost by a guess.
          if (holder.connections.size > 1 && !holder.isKnown) holder.connections.delete(client);
        } else if (!holder.isKnown) {
          holder.connections = new Set([client]);
          holder.isKnown = true;
        }
      }
    }
  }

  #busyElsewhere(): ObjectClient[] {
    const holders = [...this.#locks.values()].flatMap((lock) => lock.holders);
    return holders.filter(({ isKnown }) => isKnown).flatMap(({ connections }) => [...connections]);
  }
}

/**
 * Whose part of a shared lock a client gives back. QEMU asks on a new connection; where several of its host
 * have a part it is nobody's, and goes with its connection.
 */
function holderOf(holders: readonly Holder[], client: ObjectClient): Holder | undefined {
  const own = holders.find(({ owner }) => owner === client);
  if (own !== undefined) return own;
  const ofHost = holders.filter(({ owner }) => owner.host === client.host);
  return ofHost.length === 1 ? ofHost[0] : undefined;
}
