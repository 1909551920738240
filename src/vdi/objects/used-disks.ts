import type { Attachments } from "../attachments.ts";
import type { ObjectClient } from "./objects.ts";

interface Use {
  /** By name of a working VDI, what takes the client off its list. */
  disks: Map<string, () => void>;
  /** The names are those that it has for certain, and not all that it may have. */
  isCertain: boolean;
}

/**
 * Which working VDIs clients of Sheepdog have open. The protocol does not say: a client reads and writes
 * objects. Those of a working VDI are nobody else's; from those of a snapshot any disk may be read that
 * stands on it, so until its client does more, it is listed at all of them.
 */
export class UsedDisks {
  readonly #attachments: Attachments;
  readonly #uses = new Map<ObjectClient, Use>();

  constructor(components: { attachments: Attachments }) {
    this.#attachments = components.attachments;
  }

  /** The client has this one. */
  has(client: ObjectClient, name: string): void {
    const use = this.#useOf(client);
    if (!use.isCertain) this.#detachAll(use);
    use.isCertain = true;
    this.#attach(client, use, name);
  }

  /** The client has one of these, if it has none for certain; `names` is not asked for otherwise. */
  mayHave(client: ObjectClient, names: () => Iterable<string>): void {
    const use = this.#useOf(client);
    if (use.isCertain) return;
    for (const name of names()) this.#attach(client, use, name);
  }

  /** It closed this one, and may have others. */
  leaves(client: ObjectClient, name: string): void {
    const disks = this.#uses.get(client)?.disks;
    disks?.get(name)?.();
    disks?.delete(name);
  }

  disconnected(client: ObjectClient): void {
    const use = this.#uses.get(client);
    this.#uses.delete(client);
    if (use !== undefined) this.#detachAll(use);
  }

  #useOf(client: ObjectClient): Use {
    const known = this.#uses.get(client);
    if (known !== undefined) return known;
    const use: Use = { disks: new Map(), isCertain: false };
    this.#uses.set(client, use);
    return use;
  }

  #attach({ peer }: ObjectClient, { disks }: Use, name: string): void {
    if (disks.has(name)) return;
    const attachment = { protocol: "sheepdog", peer, export: name, readOnly: false } as const;
    disks.set(name, this.#attachments.add(name, attachment));
  }

  #detachAll({ disks }: Use): void {
    for (const detach of disks.values()) detach();
    disks.clear();
  }
}
