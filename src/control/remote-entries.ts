import { isKelpieError, KelpieError } from "../base/errors.ts";
import { describePoints, type PointEntry, usedBytes } from "../sheepdog/client-points.ts";
import { type RemoteVdis, remoteAttachmentKey } from "../sheepdog/client-vdis.ts";
import type { VdiEntry } from "./calls.ts";

/** The points of a cluster as plain data. Each call asks the cluster: others change it, too. */
export class RemoteEntries {
  readonly #vdis: RemoteVdis;

  constructor(components: { vdis: RemoteVdis }) {
    this.#vdis = components.vdis;
  }

  /** Of one name or all: by name, then by snap id, so that the working VDI comes last. */
  async list(name?: string): Promise<VdiEntry[]> {
    const points = await this.#points(name);
    if (name !== undefined && points.length === 0) await this.#vdis.find(name);
    const entries: VdiEntry[] = [];
    for (const point of points) {
      try {
        entries.push(await this.#entryOf(point));
      } catch (error) {
        // Deleted since the points were asked for: not in the list.
        if (!isKelpieError(error, "not-found")) throw error;
      }
    }
    return entries;
  }

  /** The working VDI, or a snapshot. Throws "not-found". */
  async one(name: string, snapshot?: string): Promise<VdiEntry> {
    const { vid } = await this.#vdis.find(name, snapshot);
    const point = (await this.#points(name)).find((other) => other.vid === vid);
    if (point !== undefined) return await this.#entryOf(point);
    throw new KelpieError(
      "not-found",
      `disk "${name}" is in a state between two: deleted in part`,
      {
        remedy: `${this.#vdis.command("rollback", name, "-s", "TAG")}, or vdi delete instead`,
      },
    );
  }

  async #points(name: string | undefined): Promise<PointEntry[]> {
    const points = await describePoints(this.#vdis.client);
    return points
      .filter((point) => name === undefined || point.name === name)
      .sort((a, b) => (a.name === b.name ? a.snapId - b.snapId : a.name < b.name ? -1 : 1));
  }

  /** Used is what is a point's own, as `dog` has it: later points may share it. */
  async #entryOf(point: PointEntry): Promise<VdiEntry> {
    const { name, kind, snapId, tag, parent, sizeBytes, createdMs } = point;
    const { own, shared } = await usedBytes(this.#vdis.client, point);
    const key = kind === "snapshot" ? remoteAttachmentKey(name, snapId) : name;
    return {
      name,
      kind,
      snapId,
      tag,
      point: point.vid,
      parent: parent?.vid ?? null,
      family: point.rootVid,
      sizeBytes,
      mappedBytes: own + shared,
      exclusiveBytes: own,
      sharedBytes: shared,
      createdMs,
      clone: kind === "working" && parent !== undefined && parent.name !== name,
      clients: this.#vdis.attachments.count(key),
    };
  }
}
