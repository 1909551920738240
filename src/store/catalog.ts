import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Backend, PutOutcome } from "./backend/backend.ts";
import type { PointChange } from "./formats/catalog-record.ts";
import {
  type CatalogRecord,
  decodeCatalogRecord,
  encodeCatalogRecord,
} from "./formats/catalog-record.ts";
import { catalogKey } from "./keys.ts";

/** What one operation wants recorded: all of it in one record, or nothing. */
export interface Proposal {
  changes: PointChange[];
  notes: unknown[];
}

interface Waiting extends Proposal {
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Proposals that share a record at most, so that a record stays small. */
const groupMax = 256;
/** Pause before asking again when it is not known whether a record was created; doubles up to the last. */
const retryFirstMs = 10;
const retryLastMs = 2000;

/**
 * The ordered log of structural changes. Proposals that wait at the same time share a record. A number
 * once tried is contended for until some record stands there: a put that was given up might still
 * land, after its failure had been reported.
 */
export class Catalog {
  readonly #backend: Backend;
  readonly #host: Host;
  readonly #apply: (record: CatalogRecord) => void;
  #queue: Waiting[] = [];
  #committing: Promise<void> | undefined;
  #closed = false;
  /** The number of the newest record that is applied. */
  #last: number;
  records = 0;

  constructor(
    settings: { last: number },
    components: { backend: Backend; host: Host; apply: (record: CatalogRecord) => void },
  ) {
    this.#last = settings.last;
    this.#backend = components.backend;
    this.#host = components.host;
    this.#apply = components.apply;
  }

  get last(): number {
    return this.#last;
  }

  /** Completes when the proposal is durable and applied. Fails with nothing changed. */
  commit(proposal: Proposal): Promise<void> {
    if (this.#closed) return Promise.reject(new KelpieError("closed", "the store is closed"));
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...proposal, resolve, reject });
      this.#committing ??= this.#commitAll();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#committing;
  }

  async #commitAll(): Promise<void> {
    while (this.#queue.length > 0) {
      const group = this.#queue.splice(0, groupMax);
      try {
        const record = await this.#put(group);
        this.#last = record.number;
        this.records++;
        // Durability: the record stands; from here on the change is a fact.
        this.#apply(record);
        for (const waiting of group) waiting.resolve();
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
      }
    }
    // In the same turn as the queue was found empty: who was just answered may already ask again.
    this.#committing = undefined;
  }

  async #put(group: readonly Proposal[]): Promise<CatalogRecord> {
    const record: CatalogRecord = {
      number: this.#last + 1,
      nonce: Buffer.from(this.#host.random.bytes(16)).toString("hex"),
      timeMs: this.#host.clock.nowMs(),
      changes: group.flatMap((proposal) => proposal.changes),
      notes: group.flatMap((proposal) => proposal.notes),
    };
    const chunks = encodeCatalogRecord(record);
    const key = catalogKey(record.number);
    let pauseMs = retryFirstMs;
    for (let attempt = 1; ; attempt++) {
      let outcome: PutOutcome;
      let failure: unknown;
      try {
        outcome = await this.#backend.putIfAbsent(key, chunks);
      } catch (error) {
        this.#host.log.error("catalog put failed", { key, error: messageOf(error) });
        outcome = "unknown";
        failure = error;
      }
      if (outcome === "created") return record;
      const standing = await this.#readBack(key);
      if (standing === "absent") {
        // A first put that throws has created nothing. After an unknown outcome that says nothing.
        if (failure !== undefined && attempt === 1) throw failure;
      } else if (standing !== "unreadable") {
        if (standing.nonce === record.nonce) return record;
        throw new KelpieError("busy", `${key} was written by somebody else`, {
          remedy: "Another server writes this store. Stop one of them.",
        });
      }
      if (this.#closed) {
        throw new KelpieError("io", `${key}: closed before the outcome of the change was known`);
      }
      await this.#host.timers.sleep(pauseMs);
      pauseMs = Math.min(pauseMs * 2, retryLastMs);
    }
  }

  async #readBack(key: string): Promise<CatalogRecord | "absent" | "unreadable"> {
    try {
      return decodeCatalogRecord(await this.#backend.get(key), key);
    } catch (error) {
      if (isKelpieError(error, "not-found")) return "absent";
      this.#host.log.error("catalog read failed", { key, error: messageOf(error) });
      return "unreadable";
    }
  }
}
