import { openLocalStore } from "../control/local-store.ts";
import { openS3Store } from "../control/s3-store.ts";
import { copyStore, type StoreCopyResult } from "../control/store-copy.ts";
import type { Host } from "../host/host.ts";
import { machineName } from "../host/node/machine-name.ts";
import type { Store } from "../store/store.ts";
import { defaultKeepDiscarded } from "../vdi/retention.ts";
import type { CopyToOptions, OpenLocal, OpenLocalOptions } from "./context.ts";
import { openCopyTarget } from "./copy-target.ts";
import { openObjects } from "./s3-objects.ts";
import { isS3Url } from "./s3-place.ts";

/** Opens the store in this process. */
export const openLocal: OpenLocal = async (url, options) => {
  const { host, create, acceptDamage = false, keepDiscarded = {}, lock = false } = options;
  const { ms, fraction } = keepDiscarded;
  const settings = {
    directory: options.directory ?? url,
    create,
    acceptDamage,
    lock,
    keepDiscarded: {
      ageMs: ms ?? defaultKeepDiscarded.ageMs,
      share: fraction ?? defaultKeepDiscarded.share,
    },
  };
  const store = isS3Url(url)
    ? await openS3(url, settings, options)
    : await openLocalStore(settings, { host });
  return {
    ...store,
    copyTo: (place, copying) => copyTo(store.vdis.store, place, copying, host),
  };
};

type Settings = Parameters<typeof openLocalStore>[0];

async function openS3(
  url: string,
  settings: Settings,
  { host, s3 = {} }: OpenLocalOptions,
): ReturnType<typeof openS3Store> {
  const objects = await openObjects(url, s3);
  const where = `${machineName()}, pid ${process.pid}`;
  const { cacheBytes, takeOver, acceptLoss } = s3;
  const more = { cacheBytes, takeOver, acceptLoss, where };
  return await openS3Store({ ...settings, ...more }, { host, objects });
}

async function copyTo(
  source: Store,
  place: string,
  { s3, progress, signal }: CopyToOptions,
  host: Host,
): Promise<StoreCopyResult> {
  const target = await openCopyTarget(place, s3, host);
  try {
    return await copyStore(source, target.backend, { progress, signal });
  } finally {
    await target.close();
  }
}
