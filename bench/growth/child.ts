/** The other side of run-child.ts: node --expose-gc child.ts TASK JSON. Prints its answer as JSON. */
import { buildBigDisk } from "./big-disk.ts";
import { growHistory } from "./history.ts";
import { buildLevels } from "./levels.ts";
import { measureMapScan } from "./map-scan.ts";
import {
  measureEnd,
  measureOpen,
  measureOperations,
  measureReads,
  measureWalk,
} from "./operations.ts";
import { writeUntilKilled } from "./unclean.ts";

type Task = (input: never) => Promise<unknown>;

const tasks: Record<string, Task> = {
  build: buildBigDisk,
  grow: growHistory,
  open: measureOpen,
  operations: measureOperations,
  walk: measureWalk,
  reads: measureReads,
  mapScan: measureMapScan,
  end: measureEnd,
  levels: buildLevels,
  writeUntilKilled,
};

const [, , name = "", json = "{}"] = process.argv;
const task = tasks[name];
if (task === undefined) throw new Error(`there is no task "${name}"`);
const answer = await task(JSON.parse(json) as never);
console.log(JSON.stringify(answer ?? null));
