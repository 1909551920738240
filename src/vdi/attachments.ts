import { assert } from "../base/assert.ts";
import type { ExportClient } from "../block/exports.ts";

export type Protocol = ExportClient["protocol"];

export interface Attachment extends ExportClient {
  /** The export as it was asked for. */
  export: string;
  readOnly: boolean;
}

/** Who has which point open. */
export class Attachments {
  readonly #byKey = new Map<string, Set<Attachment>>();

  add(key: string, attachment: Attachment): () => void {
    const set = this.#byKey.get(key) ?? new Set();
    this.#byKey.set(key, set);
    set.add(attachment);
    let isThere = true;
    return () => {
      assert(isThere, "detached twice");
      isThere = false;
      set.delete(attachment);
      if (set.size === 0) this.#byKey.delete(key);
    };
  }

  of(key: string): Attachment[] {
    return [...(this.#byKey.get(key) ?? [])];
  }

  /** Without those of one protocol, if it is named. */
  count(key: string, ignoring?: Protocol): number {
    const all = this.#byKey.get(key);
    if (all === undefined || ignoring === undefined) return all?.size ?? 0;
    return [...all].filter(({ protocol }) => protocol !== ignoring).length;
  }
}
