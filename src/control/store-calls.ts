import { checkStore } from "../store/check.ts";
import { inspectStore } from "../store/inspect.ts";
import type { Point } from "../store/point.ts";
import type { Vdis } from "../vdi/vdis.ts";
import type { CallName } from "./calls.ts";
import type { ControlParts, Handlers, RemoteParts } from "./control.ts";

type StoreCall = Extract<CallName, `store.${string}`>;

export function storeCalls({ vdis, url, remote }: ControlParts): Handlers<StoreCall> {
  const { store, registry } = vdis;
  return {
    "store.info": async () => {
      await store.space.check();
      const { usedBytes, liveBytes } = store.cleaner.totals();
      return {
        url,
        id: store.identity.id,
        format: store.identity.format,
        vdis: registry.working.size,
        points: store.state.points.size,
        segments: store.state.segments.count,
        liveBytes,
        usedBytes: usedBytes + store.state.mapObjects.totalBytes,
        freeBytes: store.space.freeBytes,
        reserveBytes: Math.round(store.space.reserveBytes),
        catalogRecords: store.catalog.last,
        state: store.space.isFull ? "full" : "open",
        ...(remote === undefined ? {} : { remote: describeRemote(remote) }),
      };
    },
    "store.check": async ({ repair }, { progress, signal }) =>
      await checkStore(store, {
        repair,
        progress,
        signal,
        describe: (point) => describe(vdis, point),
      }),
    "store.clean": async (_input, context) => {
      const freedBytes = await store.clean(context);
      return { freedBytes, ...store.cleaner.totals() };
    },
    "store.inspect": async ({ key }) => ({ lines: await inspectStore(store, key) }),
  };
}

function describeRemote({ counts, uploads, backend }: RemoteParts) {
  const { budget, cache } = backend;
  return {
    requests: counts,
    pendingBytes: uploads.pendingBytes,
    cacheBytes: budget.usedBytes,
    cacheBytesMax: budget.limitBytes,
    cacheHits: cache.hits,
    cacheMisses: cache.misses,
  };
}

function describe(vdis: Vdis, point: Point): string {
  const { registry } = vdis;
  const snapshot = registry.snapshotAt(point.id);
  if (snapshot !== undefined) return `${snapshot.name}@${snapshot.tag || `#${snapshot.snapId}`}`;
  const discarded = registry.discarded.get(point.id);
  if (discarded !== undefined) return `${discarded.name}, discarded (${point.id})`;
  for (const { name, tip } of registry.working.values()) if (tip === point.id) return name;
  for (const [owner, extra] of registry.objects.extras) {
    if (extra !== point.id) continue;
    return `what Sheepdog's clients keep with ${describe(vdis, vdis.store.point(owner))}`;
  }
  return `point ${point.id}, deleted`;
}
