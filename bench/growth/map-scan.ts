import { monitorEventLoopDelay } from "node:perf_hooks";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { reachedNodes } from "../../src/store/map/map-cleaner.ts";
import { type Memory, memory } from "./operations.ts";

export interface MapScan {
  /** Of all map objects. */
  mapBytes: number;
  nodes: number;
  ms: number;
  /** The longest that anything else had to wait meanwhile. */
  stallMs: number;
  after: Memory;
}

/** What the cleaner of maps does before it cleans: follows all references from all roots. */
export async function measureMapScan({ directory }: { directory: string }): Promise<MapScan> {
  const store = await openLocalStore({ directory }, { host: createNodeHost({ logLevel: "warn" }) });
  const { state } = store.vdis.store;
  const roots = [...state.points.values()].map(({ map }) => map.root.reference);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const startMs = performance.now();
  const reached = await reachedNodes(roots, state.mapObjects);
  const ms = performance.now() - startMs;
  delay.disable();
  let nodes = 0;
  for (const places of reached.values()) nodes += places.size;
  const after = memory();
  const mapBytes = state.mapObjects.totalBytes;
  setImmediate(() => process.exit(0));
  return { mapBytes, nodes, ms, stallMs: delay.max / 1e6, after };
}
