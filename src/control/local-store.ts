import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Exports } from "../block/exports.ts";
import type { FileLock, Space } from "../host/files.ts";
import type { Host } from "../host/host.ts";
import { openDirectoryBackend } from "../store/backend/directory.ts";
import type { Objects } from "../vdi/objects/objects.ts";
import { VdiObjects } from "../vdi/objects/vdi-objects.ts";
import { VdiExports } from "../vdi/vdi-exports.ts";
import { Vdis, type VdisSettings } from "../vdi/vdis.ts";
import type { Control } from "./calls.ts";
import { createControl, type RemoteParts } from "./control.ts";
import type { ServerEvents } from "./server-events.ts";
import type { StoreFigures } from "./server-shapes.ts";
import { storeFiguresOf } from "./store-figures.ts";
import { Vms } from "./vms.ts";
import { watchChanges } from "./watch-changes.ts";

export type LocalStoreSettings = Partial<Omit<VdisSettings, "directory">> & {
  /** Where the store is, or shall be. */
  directory: string;
  /** Locks are on, though the store was not formatted with them. */
  lock?: boolean;
};

/** What a server for Sheepdog's clients is made of. */
interface SheepdogParts {
  objects: Objects;
  store: { path: string; createdMs: number; space(): Promise<Space> };
}

/** A store in a directory of this machine, opened by this process. */
export interface LocalStore {
  readonly control: Control;
  readonly exports: Exports;
  readonly vdis: Vdis;
  readonly vms: Vms;
  readonly sheepdog: SheepdogParts;
  /** For the end: requests that wait for their disk's rate are let go. */
  endWaits(): void;
  /** What the store counts, for people to watch. */
  figures(): StoreFigures;
  /** Has `events` told of every change. */
  watch(events: ServerEvents): void;
  /** What a disk that a client of Sheepdog names is called. */
  nameOfVid(vid: number): string | undefined;
  close(): Promise<void>;
}

/** Takes the store's lock and opens it. Fails with "busy" if another process has it. */
export async function openLocalStore(
  settings: LocalStoreSettings,
  components: { host: Host },
): Promise<LocalStore> {
  const { directory, create = false } = settings;
  const { host } = components;
  const { lock, made } = await lockStore(directory, create, host);
  try {
    const backend = await openDirectoryBackend({ root: directory, made }, host);
    const vdis = await Vdis.open({ ...settings, directory, create }, { host, backend, lock });
    const parts = { url: directory, directory, locking: settings.lock === true };
    return assembleStore(parts, { vdis, host });
  } catch (error) {
    await lock.release();
    throw error;
  }
}

export interface AssembleSettings {
  /** As the user named it. */
  url: string;
  /** On this machine: for what VMs need, and where space is measured. */
  directory: string;
  /** A disk that a client of Sheepdog has opened is refused to others. */
  locking: boolean;
}

/** All that stands on the disks of a store. */
export function assembleStore(
  { url, directory, locking }: AssembleSettings,
  { vdis, host, remote }: { vdis: Vdis; host: Host; remote?: RemoteParts },
): LocalStore {
  const vms = new Vms({ directory }, { vdis, host });
  const objects = new VdiObjects({ locking }, { vdis });
  return {
    control: createControl({ url }, { vdis, vms, objects, remote }),
    exports: new VdiExports({ vdis }),
    vdis,
    vms,
    sheepdog: {
      objects,
      store: {
        path: url,
        createdMs: vdis.store.identity.createdMs,
        space: () => host.files.space(directory),
      },
    },
    endWaits: () => vdis.volumes.liftLimits(),
    figures: () => storeFiguresOf(vdis.store),
    watch: (events) => watchChanges(vdis.registry, events),
    nameOfVid: (vid) => vdis.registry.objects.vids.get(vid)?.name,
    close: async () => {
      await vms.close();
      await vdis.close();
    },
  };
}

/** One process at a time writes a store; the lock goes when that process does. */
async function lockStore(
  directory: string,
  create: boolean,
  host: Host,
): Promise<{ lock: FileLock; made: string[] }> {
  const { files } = host;
  await mustBeStoreOrEmpty(directory, create, host);
  // The backend makes it durable, with the directories above it.
  // Its files are the disks of whoever runs it: nobody else's business.
  const made = create ? await files.makeDirectory(directory, 0o700) : [];
  try {
    return { lock: await files.lock(`${directory}/lock`), made };
  } catch (error) {
    if (!isKelpieError(error, "busy")) throw error;
    throw new KelpieError("busy", `${directory} is in use by another process`, {
      cause: error,
      remedy: "Stop it, or name another store with --store.",
    });
  }
}

/** Before anything is written into it: a directory of somebody else's must stay as it is. */
async function mustBeStoreOrEmpty(directory: string, create: boolean, host: Host): Promise<void> {
  const names = await listOrNothing(directory, host);
  if (names?.includes("store")) return;
  const strangers = (names ?? []).filter((name) => !ownNames.has(name));
  if (strangers.length > 0) {
    throw new KelpieError(
      "invalid",
      `${directory} is not a Kelpie store, and not empty: it has ${strangers[0]}`,
      { remedy: "Name another directory with --store." },
    );
  }
  if (create) return;
  throw new KelpieError("not-found", `there is no store in ${directory}`, {
    remedy: "`kelpie serve` makes one; --store or $KELPIE_STORE says where.",
  });
}

async function listOrNothing(directory: string, host: Host): Promise<string[] | undefined> {
  try {
    return await host.files.list(directory);
  } catch (error) {
    if (isKelpieError(error, "not-found")) return undefined;
    throw new KelpieError("io", `${directory} cannot be read as a directory`, { cause: error });
  }
}

/** What opening may have left before the identity was written. */
const ownNames = new Set(["lock", "tmp", "control.sock", "nbd.sock", "sock", "token"]);
