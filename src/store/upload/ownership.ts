import { z } from "zod";
import { KelpieError } from "../../base/errors.ts";
import type { Host } from "../../host/host.ts";
import type { Backend } from "../backend/backend.ts";
import { ownerKey, ownersPrefix, parseNumbered } from "../keys.ts";
import { listAll } from "../recovery.ts";

/** Who may write the store from this record on. */
const claimSchema = z.object({
  /** Of the directory on the owner's machine: it alone has what was not uploaded. */
  directory: z.string(),
  /** For people: where that is. */
  where: z.string(),
  timeMs: z.number(),
  /** It was closed: nothing is anywhere else, and anybody may have it. */
  released: z.boolean(),
});

export type Claim = z.infer<typeof claimSchema>;

export interface OwnershipSettings {
  directory: string;
  where: string;
  /** Also from an owner that did not release it. */
  takeOver: boolean;
}

/**
 * One gateway at a time writes a store. It says so in a numbered sequence of records, of which the newest
 * counts, and once more when it is closed. The same directory has it again at once after a crash; anybody
 * else only if told to, because nobody can see from here whether the owner is dead.
 */
export class Ownership {
  readonly #settings: OwnershipSettings;
  readonly #backend: Backend;
  readonly #host: Host;
  #number = 0;

  private constructor(settings: OwnershipSettings, components: { backend: Backend; host: Host }) {
    this.#settings = settings;
    this.#backend = components.backend;
    this.#host = components.host;
  }

  /** `isSame`: nobody else has had it since this directory did. */
  static async claim(
    settings: OwnershipSettings,
    components: { backend: Backend; host: Host },
  ): Promise<{ ownership: Ownership; isSame: boolean }> {
    const ownership = new Ownership(settings, components);
    const newest = await ownership.#newest();
    const isSame = newest?.claim.directory === settings.directory;
    if (newest !== undefined && !isSame && !newest.claim.released && !settings.takeOver) {
      throw inUse(newest.claim);
    }
    await ownership.#put((newest?.number ?? 0) + 1, false);
    await ownership.#removeOld();
    return { ownership, isSame };
  }

  /** Fails if somebody else has taken it over. */
  async check(): Promise<void> {
    const [newer] = await this.#backend.list(ownersPrefix, ownerKey(this.#number));
    if (newer !== undefined) throw inUse(decode(await this.#backend.get(newer), newer));
  }

  async release(): Promise<void> {
    await this.#put(this.#number + 1, true);
  }

  async #newest(): Promise<{ number: number; claim: Claim } | undefined> {
    const keys = await listAll(this.#backend, ownersPrefix);
    const key = keys.at(-1);
    const number = key === undefined ? undefined : parseNumbered(ownersPrefix, key)?.number;
    if (key === undefined || number === undefined) return undefined;
    return { number, claim: decode(await this.#backend.get(key), key) };
  }

  async #put(number: number, released: boolean): Promise<void> {
    const { directory, where } = this.#settings;
    const claim: Claim = { directory, where, timeMs: this.#host.clock.nowMs(), released };
    const key = ownerKey(number);
    const outcome = await this.#backend.putIfAbsent(key, [Buffer.from(JSON.stringify(claim))]);
    if (outcome === "exists") throw inUse(decode(await this.#backend.get(key), key));
    if (outcome === "unknown") {
      throw new KelpieError("io", `${key}: the object store did not say whether it was created`);
    }
    this.#number = number;
  }

  /** The newest counts; a few stay for people to look at. */
  async #removeOld(): Promise<void> {
    for (const key of await listAll(this.#backend, ownersPrefix)) {
      const number = parseNumbered(ownersPrefix, key)?.number ?? 0;
      if (number < this.#number - keptClaims) await this.#backend.delete(key);
    }
  }
}

const keptClaims = 16;

function decode(bytes: Uint8Array, key: string): Claim {
  try {
    return claimSchema.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch (cause) {
    throw new KelpieError("corrupt", `${key} is not a record of an owner`, { cause });
  }
}

function inUse(claim: Claim): KelpieError {
  const since = new Date(claim.timeMs).toISOString();
  return new KelpieError("busy", `the store is in use by ${claim.where}, since ${since}`, {
    remedy:
      "Stop that gateway. If it is gone for good: `--take-over`, which leaves what it had not sent.",
  });
}
