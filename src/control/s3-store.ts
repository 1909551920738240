import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { FileLock } from "../host/files.ts";
import type { Host } from "../host/host.ts";
import type { ObjectStore } from "../host/object-store.ts";
import { CountedObjects } from "../store/backend/counted-objects.ts";
import type { S3Backend } from "../store/backend/s3.ts";
import { openTieredBackend, type TieredBackend } from "../store/backend/tiered.ts";
import { decodeIdentity } from "../store/formats/identity.ts";
import { identityKey } from "../store/keys.ts";
import { defaultMaintenance } from "../store/maintenance.ts";
import { checkBucket } from "../store/upload/attach.ts";
import { Ownership } from "../store/upload/ownership.ts";
import { Uploads } from "../store/upload/uploads.ts";
import { deleteIncomplete } from "../vdi/sending.ts";
import { Vdis, type VdisSettings } from "../vdi/vdis.ts";
import { assembleStore, type LocalStore } from "./local-store.ts";

export type S3StoreSettings = Partial<Omit<VdisSettings, "directory">> & {
  /** On this machine: segments that are written, and a cache. */
  directory: string;
  /** What the cache may take; 10 GiB by default. */
  cacheBytes?: number | undefined;
  /** Also from an owner that has not closed it. */
  takeOver?: boolean | undefined;
  /** For people elsewhere: this machine and process. */
  where: string;
  /** Locks are on, though the store was not formatted with them. */
  lock?: boolean;
};

export const defaultCacheBytes = 10 * 2 ** 30;
/** Each is in memory on its way, and one request. */
const segmentBytes = 16 * 2 ** 20;
/** How long a number that is not needed any more stays taken. */
const graceMs = 15 * 60_000;
/** What may wait for its upload, and the share of the file system that it may take. */
const pendingBytesMax = 2 ** 30;
const pendingShare = 0.25;
/** Cleaning costs requests, and space in an object store is cheap. */
const maintenance = { usedFactor: 2 };

/** A store in an object store, with a directory of this machine before it. "busy": somebody has it. */
export async function openS3Store(
  settings: S3StoreSettings,
  components: { host: Host; objects: ObjectStore },
): Promise<LocalStore> {
  const { host } = components;
  const { directory, create = false } = settings;
  const objects = new CountedObjects(components.objects);
  const lock = await lockDirectory(directory, host);
  let uploads: Uploads | undefined;
  try {
    await checkBucket(objects, host);
    const backend = await openTieredBackend(
      { directory, cacheBytes: settings.cacheBytes ?? defaultCacheBytes },
      { host, objects },
    );
    const storeId = await identityOf(backend.remote, { create, url: objects.url });
    await checkDirectory(directory, storeId, host);
    const ownership = await claim(settings, { host, backend });
    const { totalBytes } = await host.files.space(directory);
    uploads = new Uploads(
      { pendingBytesMax: Math.min(pendingBytesMax, totalBytes * pendingShare) },
      { backend, host, ownership },
    );
    const vdis = await Vdis.open(
      {
        segmentBytesMax: segmentBytes,
        graceMs,
        ...settings,
        maintenance: { ...defaultMaintenance, ...maintenance, ...settings.maintenance },
        create,
      },
      { host, backend, lock, uploads },
    );
    const lost = await deleteIncomplete(vdis);
    if (lost.length > 0) host.log.warn("snapshots that had not been sent were deleted", { lost });
    await noteStore(directory, vdis.store.identity.id, host);
    const locking = settings.lock === true;
    const remote = { counts: objects.counts, uploads, backend };
    return assembleStore({ url: objects.url, directory, locking }, { vdis, host, remote });
  } catch (error) {
    // What it had begun to send is sent the next time.
    uploads?.hasten();
    await objects.close();
    await lock.release();
    throw error;
  }
}

async function lockDirectory(directory: string, host: Host): Promise<FileLock> {
  // It holds parts of disks: nobody else's business.
  await host.files.makeDirectory(directory, 0o700);
  try {
    return await host.files.lock(`${directory}/lock`);
  } catch (error) {
    if (!isKelpieError(error, "busy")) throw error;
    throw new KelpieError("busy", `${directory} is in use by another process`, {
      cause: error,
      remedy: "Stop it, or name another directory with --local.",
    });
  }
}

/** Undefined if there is no store yet. */
async function identityOf(
  remote: S3Backend,
  { create, url }: { create: boolean; url: string },
): Promise<string | undefined> {
  try {
    return decodeIdentity(await remote.get(identityKey), identityKey).id;
  } catch (error) {
    if (!isKelpieError(error, "not-found")) throw error;
    if (create) return undefined;
    throw new KelpieError("not-found", `there is no store in ${url}`, {
      remedy: "`kelpie serve` makes one; --store or $KELPIE_STORE says where.",
    });
  }
}

/** What is in a directory belongs to one store. */
async function checkDirectory(
  directory: string,
  storeId: string | undefined,
  host: Host,
): Promise<void> {
  const known = await readLine(`${directory}/${storeFile}`, host);
  if (known === undefined || known === storeId) return;
  throw new KelpieError("invalid", `${directory} holds parts of another store, ${known}`, {
    remedy: "Name another directory with --local.",
  });
}

/**
 * Makes this directory the owner. If another one was in between, what is written here and not sent is of
 * a history that ended: it is put aside and never replayed.
 */
async function claim(
  settings: S3StoreSettings,
  { host, backend }: { host: Host; backend: TieredBackend },
): Promise<Ownership> {
  const { directory, where, takeOver = false } = settings;
  const { ownership, isSame } = await Ownership.claim(
    { directory: await directoryId(directory, host), where, takeOver },
    { backend: backend.remote, host },
  );
  if (isSame || !(await host.files.list(directory)).includes("logs")) return ownership;
  const aside = `${directory}/set-aside`;
  await host.files.makeDirectory(aside);
  const name = `${aside}/${host.clock.nowMs()}`;
  await host.files.rename(`${directory}/logs`, name);
  await host.files.syncDirectory(directory);
  host.log.warn("another gateway had the store: what was written here was put aside", { name });
  return ownership;
}

const storeFile = "store-id";
const directoryFile = "directory-id";

async function directoryId(directory: string, host: Host): Promise<string> {
  const path = `${directory}/${directoryFile}`;
  const known = await readLine(path, host);
  if (known !== undefined) return known;
  const id = Buffer.from(host.random.bytes(16)).toString("hex");
  await writeLine(path, id, host);
  return id;
}

async function noteStore(directory: string, storeId: string, host: Host): Promise<void> {
  const path = `${directory}/${storeFile}`;
  if ((await readLine(path, host)) === undefined) await writeLine(path, storeId, host);
}

async function readLine(path: string, host: Host): Promise<string | undefined> {
  try {
    return Buffer.from(await host.files.readFile(path))
      .toString()
      .trim();
  } catch (error) {
    if (isKelpieError(error, "not-found")) return undefined;
    throw error;
  }
}

/** Whole, or not at all. */
async function writeLine(path: string, line: string, { files }: Host): Promise<void> {
  const temporary = `${path}.new`;
  await files.remove(temporary).catch(() => {}); // left by an attempt that did not end
  const handle = await files.open(temporary, { access: "create" });
  await handle.write([Buffer.from(`${line}\n`)], 0);
  await handle.sync();
  await handle.close();
  await files.rename(temporary, path);
  await files.syncDirectory(path.slice(0, path.lastIndexOf("/")));
}
