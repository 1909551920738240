import type { Figure, Phase } from "../bench.ts";
import { afterSnapshot } from "./after-snapshot.ts";
import { besidePeers } from "./beside-peers.ts";
import { cleaner } from "./cleaner.ts";
import { flush } from "./flush.ts";
import { growth } from "./growth.ts";
import { qos } from "./qos.ts";
import { sheepdog } from "./sheepdog.ts";
import { space } from "./space.ts";
import { tls } from "./tls.ts";

const [branch, ...otherGrowth] = growth;

/** In the order in which the design lists them, which is that of the table. */
export const allFigures: readonly Figure[] = [
  ...besidePeers,
  ...sheepdog,
  ...tls,
  afterSnapshot,
  flush,
  ...(branch === undefined ? [] : [branch]),
  space,
  cleaner,
  qos,
  ...otherGrowth,
];

const phases: readonly Phase[] = ["filled", "written", "own store"];

/** In the order in which they are measured. */
export function byPhase(figures: readonly Figure[]): Figure[] {
  return phases.flatMap((phase) => figures.filter((figure) => figure.phase === phase));
}
