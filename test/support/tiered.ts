import type { MemoryBucket } from "../../sim/memory-object-store.ts";
import type { Host } from "../../src/host/host.ts";
import { openTieredBackend, type TieredBackend } from "../../src/store/backend/tiered.ts";

/** A backend of a bucket in memory. */
export function openTiered(
  settings: { directory: string; cacheBytes: number; pieceBytes?: number; giveUpMs?: number },
  { host, bucket }: { host: Host; bucket: MemoryBucket },
): Promise<TieredBackend> {
  return openTieredBackend(settings, { host, objects: bucket.open() });
}
