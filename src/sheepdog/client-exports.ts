import { KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { ExportClient, ExportSummary, Exports, OpenExport } from "../block/exports.ts";
import { checkHeader, readPoint } from "./client-inode.ts";
import { listPoints, listPointsOf } from "./client-list.ts";
import { workingVid } from "./client-make.ts";
import { RemoteSnapshot } from "./client-snapshot.ts";
import { type RemoteVdis, remoteAttachmentKey } from "./client-vdis.ts";
import { basesOf } from "./client-volumes.ts";

/**
 * The disks of a cluster as exports: `NAME` is the working VDI, `NAME@TAG` and `NAME@#ID` are snapshots.
 * The whole string is tried as a name first, for a name may have an @ in it.
 */
export class RemoteExports implements Exports {
  readonly #vdis: RemoteVdis;

  constructor(components: { vdis: RemoteVdis }) {
    this.#vdis = components.vdis;
  }

  async list(): Promise<ExportSummary[]> {
    const points = await listPoints(this.#vdis.client);
    const names = points.filter(({ snapshotMs }) => snapshotMs === 0).map(({ name }) => name);
    return names.sort().map((name) => ({ name, description: "" }));
  }

  async open(name: string, client: ExportClient): Promise<OpenExport> {
    const at = name.lastIndexOf("@");
    const isWorking = at <= 0 || (await workingVid(this.#vdis.client, name)) !== undefined;
    if (isWorking) return await this.#openWorking(name, client);
    return await this.#openSnapshot(name.slice(0, at), name.slice(at + 1), client);
  }

  async #openWorking(name: string, client: ExportClient): Promise<OpenExport> {
    await this.#vdis.find(name); // says what is wrong in the words of other commands
    const { volume, close } = await this.#vdis.volumes.open(name);
    return this.#opened({ name, description: "", key: name, device: volume, client, close });
  }

  async #openSnapshot(name: string, snapshot: string, client: ExportClient): Promise<OpenExport> {
    if (snapshot === "") throw new KelpieError("not-found", `"${name}@" names no snapshot`);
    const { client: cluster } = this.#vdis;
    const { vid } = await this.#vdis.find(name, snapshot);
    const point = await readPoint(cluster, vid);
    const { tag, snapId } = checkHeader(point.header, vid);
    const changeBases = async () => {
      const points = await listPointsOf(cluster, name);
      return points.filter((other) => other.snapId < snapId).flatMap(basesOf);
    };
    return this.#opened({
      name: `${name}@${tag === "" ? `#${snapId}` : tag}`,
      description: `snapshot ${snapId} of ${name}`,
      key: remoteAttachmentKey(name, snapId),
      device: new RemoteSnapshot(point, { client: cluster, changeBases }),
      client,
      close: async () => {},
    });
  }

  #opened(what: {
    name: string;
    description: string;
    key: string;
    device: BlockDevice;
    client: ExportClient;
    close(): Promise<void>;
  }): OpenExport {
    const { name, description, key, device, client, close } = what;
    const { readOnly } = device;
    const detach = this.#vdis.attachments.add(key, { ...client, export: name, readOnly });
    return {
      name,
      description,
      device,
      async close() {
        detach();
        await close();
      },
    };
  }
}
