import { KelpieError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Backend } from "../store/backend/backend.ts";
import { openDirectoryBackend } from "../store/backend/directory.ts";
import { S3Backend } from "../store/backend/s3.ts";
import { copyingKey } from "../store/keys.ts";
import { checkBucket } from "../store/upload/attach.ts";
import type { S3Options } from "./context.ts";
import { openObjects } from "./s3-objects.ts";
import { isS3Url } from "./s3-place.ts";

/** A place for a copy of a store: nothing is there, or a part of such a copy. */
export interface CopyTarget {
  backend: Backend;
  close(): Promise<void>;
}

export async function openCopyTarget(
  place: string,
  s3: S3Options,
  host: Host,
): Promise<CopyTarget> {
  if (!isS3Url(place)) return await openDirectoryTarget(place, host);
  const objects = await openObjects(place, s3);
  try {
    await checkBucket(objects, host);
  } catch (error) {
    await objects.close();
    throw error;
  }
  const { clock, timers, random, log } = host;
  const backend = new S3Backend({}, { objects, clock, timers, random, log });
  return { backend, close: () => backend.close() };
}

async function openDirectoryTarget(directory: string, host: Host): Promise<CopyTarget> {
  const { files } = host;
  const made = await files.makeDirectory(directory, 0o700);
  const names = await files.list(directory);
  const isOurs = names.length === 0 || names.includes(copyingKey) || names.includes("store");
  if (!isOurs && names.some((name) => name !== "lock" && name !== "tmp")) {
    throw new KelpieError("invalid", `${directory} is not empty: it has ${names[0]}`, {
      remedy: "Name another directory.",
    });
  }
  const lock = await files.lock(`${directory}/lock`);
  const backend = await openDirectoryBackend({ root: directory, made }, host);
  return {
    backend,
    close: async () => {
      await backend.close();
      await lock.release();
    },
  };
}
