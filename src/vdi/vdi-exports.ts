import { KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { ExportClient, ExportSummary, Exports, OpenExport } from "../block/exports.ts";
import { SnapshotDevice } from "./snapshot-device.ts";
import { attachmentKey, type Vdis } from "./vdis.ts";

/**
 * The disks as exports: `NAME` is the working VDI, `NAME@TAG` and `NAME@#ID` are snapshots. The whole
 * string is tried as a name first, for a name may have an @ in it.
 */
export class VdiExports implements Exports {
  readonly #vdis: Vdis;

  constructor(components: { vdis: Vdis }) {
    this.#vdis = components.vdis;
  }

  async list(): Promise<ExportSummary[]> {
    const { registry } = this.#vdis;
    return [...registry.working.keys()].sort().map((name) => ({ name, description: "" }));
  }

  async open(name: string, client: ExportClient): Promise<OpenExport> {
    const { registry } = this.#vdis;
    const at = name.lastIndexOf("@");
    if (registry.working.has(name) || at <= 0) return this.#openWorking(name, client);
    return this.#openSnapshot(name.slice(0, at), name.slice(at + 1), client);
  }

  #openWorking(name: string, client: ExportClient): OpenExport {
    this.#vdis.registry.find(name);
    this.#vdis.vidLocks.mustBeFree(name);
    const what = { name, disk: name, description: "", key: name };
    return this.#opened(what, this.#vdis.volume(name), client);
  }

  #openSnapshot(name: string, snapshot: string, client: ExportClient): OpenExport {
    const { registry, store, history } = this.#vdis;
    if (snapshot === "") throw new KelpieError("not-found", `"${name}@" names no snapshot`);
    const { point, snapId, tag } = registry.findSnapshot(name, snapshot);
    const limiter = registry.working.has(name) ? this.#vdis.volume(name).limiter : undefined;
    const components = { store, history, limiter };
    const device = new SnapshotDevice({ name, point: store.point(point) }, components);
    const full = `${name}@${tag === "" ? `#${snapId}` : tag}`;
    const description = `snapshot ${snapId} of ${name}`;
    return this.#opened(
      { name: full, disk: name, description, key: attachmentKey(name, snapId) },
      device,
      client,
    );
  }

  #opened(
    what: { name: string; disk: string; description: string; key: string },
    device: BlockDevice,
    client: ExportClient,
  ): OpenExport {
    const { name, disk, description, key } = what;
    const { readOnly } = device;
    const detach = this.#vdis.attachments.add(key, { ...client, export: name, readOnly });
    return {
      name,
      disk,
      description,
      device,
      async close() {
        detach();
      },
    };
  }
}
