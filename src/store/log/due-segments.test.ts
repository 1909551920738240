import assert from "node:assert/strict";
import { test } from "node:test";
import { contentOf, directory, LogWorld } from "../../../test/store/log-world.ts";
import { holdNext } from "../../../test/support/hold-next.ts";

test("who waits for a cut does not wait for what is written behind it", async () => {
  const world = new LogWorld();
  const { files, writer } = world;
  await world.write(0, 1);
  await writer.flush();
  await world.write(1, 2);
  const held = holdNext(files, "sync", () => true);
  const before = writer.flush();
  await held.reached;
  await world.write(2, 3);
  await writer.hold();
  writer.cut();
  writer.release();
  const ofCut = writer.flush();
  await world.write(3, 4);
  const synced: string[] = [];
  files.before = ({ operation, path }) => {
    if (operation.startsWith("sync")) synced.push(`${operation} ${path}`);
    return undefined;
  };
  held.letGo();
  await before;
  await ofCut;
  assert.deepEqual(synced, [`sync ${directory}/0000000000000000`]);
  await writer.flush();
  assert.deepEqual(synced.slice(1), [
    `sync ${directory}/0000000000000001`,
    `syncDirectory ${directory}`,
  ]);
  const left = await contentOf(files.crashKeepingNothing());
  assert.deepEqual(
    left,
    new Map([
      [0, 1],
      [1, 2],
      [2, 3],
      [3, 4],
    ]),
  );
});

test("a flush that was asked for behind the cut takes both segments, in their order", async () => {
  const world = new LogWorld();
  const { files, writer } = world;
  await world.write(0, 1);
  await writer.hold();
  writer.cut();
  writer.release();
  await world.write(1, 2);
  const synced: string[] = [];
  files.before = ({ operation, path }) => {
    if (operation === "sync") synced.push(path);
    return undefined;
  };
  await writer.flush();
  assert.deepEqual(synced, [`${directory}/0000000000000000`, `${directory}/0000000000000001`]);
});
