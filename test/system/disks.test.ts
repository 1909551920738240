import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { CallOutput, RangeEntry, VdiEntry } from "../../src/control/calls.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";
import { treeShape } from "../support/tree-shape.ts";

const mebibyte = 2 ** 20;
const block = 4096;

let scratch: Scratch;
let server: ServerProcess;
before(async () => {
  scratch = await Scratch.create();
  server = await ServerProcess.start(scratch.path);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await scratch[Symbol.asyncDispose]();
});

async function write(name: string, offset: number, length: number, value: number): Promise<void> {
  const client = await server.connect(name);
  await client.write([Buffer.alloc(length, value)], offset);
  await client.flush();
  await client.close();
}

/** The one value that all bytes of a range have. */
async function valueAt(name: string, offset: number, length: number): Promise<number> {
  const client = await server.connect(name);
  const bytes = Buffer.alloc(length);
  await client.read(bytes, offset);
  await client.close();
  const value = bytes[0] as number;
  assert.ok(
    bytes.every((byte) => byte === value),
    `${name} has different bytes`,
  );
  return value;
}

async function entriesOf(name: string): Promise<VdiEntry[]> {
  return (await server.json("vdi", "list", name)) as VdiEntry[];
}

test("a clone begins as the snapshot, and neither sees what the other writes", async () => {
  await server.ok("vdi", "create", "golden", "16M");
  await write("golden", 0, mebibyte, 1);
  await server.ok("vdi", "snapshot", "golden", "-s", "v1");
  await write("golden", 0, mebibyte, 2);
  await server.ok("vdi", "clone", "golden", "-s", "v1", "vm");
  assert.equal(await valueAt("vm", 0, mebibyte), 1);
  await write("vm", mebibyte, mebibyte, 3);
  assert.equal(await valueAt("golden", mebibyte, mebibyte), 0);
  assert.equal(await valueAt("golden", 0, mebibyte), 2);
  assert.equal(await valueAt("golden@v1", mebibyte, mebibyte), 0);
  const [entry] = await entriesOf("vm");
  assert.ok(entry);
  assert.equal(entry.clone, true);
  assert.deepEqual([entry.mappedBytes, entry.exclusiveBytes], [2 * mebibyte, mebibyte]);

  // The clone outlives the disk it came from.
  await server.ok("vdi", "delete", "golden", "-s", "v1");
  await server.ok("vdi", "delete", "golden");
  await server.ok("vdi", "purge");
  await server.ok("store", "clean");
  assert.equal(await valueAt("vm", 0, mebibyte), 1);
  assert.equal(await valueAt("vm", mebibyte, mebibyte), 3);
  await server.ok("vdi", "flatten", "vm");
  assert.equal(await valueAt("vm", 0, mebibyte), 1);
  assert.equal(await valueAt("vm", mebibyte, mebibyte), 3);
});

test("a snapshot in the middle is deleted, its space returns, its neighbours stay", async () => {
  await server.ok("vdi", "create", "mid", "64M");
  for (const [index, tag] of ["one", "two", "three"].entries()) {
    await write("mid", 0, 8 * mebibyte, index + 1);
    await server.ok("vdi", "snapshot", "mid", "-s", tag);
  }
  const before = await storeInfo();
  const two = (await entriesOf("mid")).find(({ tag }) => tag === "two");
  assert.equal(two?.exclusiveBytes, 8 * mebibyte);
  await server.ok("vdi", "delete", "mid", "-s", "two");
  await server.ok("store", "clean");
  const freed = before.liveBytes - (await storeInfo()).liveBytes;
  assert.equal(freed, 8 * mebibyte);

  assert.equal(await valueAt("mid@one", 0, 8 * mebibyte), 1);
  assert.equal(await valueAt("mid@three", 0, 8 * mebibyte), 3);
  const gone = await server.cli("vdi", "read", "mid", "0", "512", "-s", "two");
  assert.equal(gone.exitCode, 5);
  assert.equal(treeShape(await server.json("vdi", "tree", "mid")), "one(three(mid))");
  // Ids are not given again while a newer one is there.
  await server.ok("vdi", "snapshot", "mid");
  assert.deepEqual(
    (await entriesOf("mid")).map(({ snapId }) => snapId),
    [1, 3, 4, 5],
  );
});

test("a disk grows while a client has it, and shrinks only when asked twice", async () => {
  await server.ok("vdi", "create", "grow", "8M");
  const guest = await server.connect("grow");
  await guest.write([Buffer.alloc(mebibyte, 5)], 7 * mebibyte);
  await server.ok("vdi", "resize", "grow", "12M");
  await guest.write([Buffer.alloc(mebibyte, 6)], 0);
  await guest.close();
  const again = await server.connect("grow");
  assert.equal(again.sizeBytes, 12 * mebibyte);
  await again.write([Buffer.alloc(mebibyte, 7)], 11 * mebibyte);
  await again.close();
  assert.equal(await valueAt("grow", 7 * mebibyte, mebibyte), 5);
  assert.equal(await valueAt("grow", 8 * mebibyte, 3 * mebibyte), 0);

  const refused = await server.cli("vdi", "resize", "grow", "4M");
  assert.equal(refused.exitCode, 64);
  assert.match(refused.stderr, /--shrink/);
  await server.ok("vdi", "snapshot", "grow", "-s", "large");
  await server.ok("vdi", "resize", "grow", "4M", "--shrink");
  await server.ok("vdi", "resize", "grow", "12M");
  // What lay behind the end does not come back, but in the snapshot.
  assert.equal(await valueAt("grow", 4 * mebibyte, 8 * mebibyte), 0);
  assert.equal(await valueAt("grow", 0, mebibyte), 6);
  assert.equal(await valueAt("grow@large", 11 * mebibyte, mebibyte), 7);
  await server.ok("vdi", "rollback", "grow", "-s", "large");
  assert.equal(await valueAt("grow", 7 * mebibyte, mebibyte), 5);
});

test("diff and map tell of ranges in blocks", async () => {
  await server.ok("vdi", "create", "ranges", "32M");
  await write("ranges", 0, 2 * block, 1);
  await server.ok("vdi", "snapshot", "ranges", "-s", "a");
  await write("ranges", block, block, 2);
  await write("ranges", 16 * mebibyte + 512, 512, 3);
  await server.ok("vdi", "snapshot", "ranges", "-s", "b");
  const client = await server.connect("ranges");
  await client.trim(0, block);
  await client.zero(20 * mebibyte, block, { keepAllocated: true });
  await client.close();

  const diff = async (...points: string[]) =>
    ((await server.json("vdi", "diff", "ranges", ...points)) as RangeEntry[]).map(
      ({ offset, length }) => [offset, length],
    );
  assert.deepEqual(await diff("-F", "a", "-s", "b"), [
    [block, block],
    [16 * mebibyte, block],
  ]);
  // Allocated zeros where a hole was read the same, so nothing has changed there.
  assert.deepEqual(await diff("-F", "b"), [[0, block]]);
  assert.deepEqual(await diff("-F", "a", "-s", "a"), []);
  // Backwards it is the same.
  assert.deepEqual(await diff("-F", "b", "-s", "a"), await diff("-F", "a", "-s", "b"));

  const map = (await server.json("vdi", "map", "ranges")) as RangeEntry[];
  assert.deepEqual(
    map.map(({ offset, length, kind, depth }) => [offset, length, kind, depth]),
    [
      [0, block, "hole", 0],
      [block, block, "data", 2],
      [2 * block, 16 * mebibyte - 2 * block, "hole", 0],
      [16 * mebibyte, block, "data", 2],
      [16 * mebibyte + block, 4 * mebibyte - block, "hole", 0],
      [20 * mebibyte, block, "zero", 1],
      [20 * mebibyte + block, 12 * mebibyte - block, "hole", 0],
    ],
  );
  const ofSnapshot = (await server.json("vdi", "map", "ranges", "-s", "a")) as RangeEntry[];
  assert.deepEqual(ofSnapshot[0], { offset: 0, length: 2 * block, kind: "data", depth: 1 });
});

test("a group snapshot of two disks under load is of one moment", async () => {
  for (const name of ["left", "right"]) await server.ok("vdi", "create", name, "1M");
  const [left, right] = [await server.connect("left"), await server.connect("right")];
  // A counter goes to the left disk, and when that is acknowledged to the right one.
  let isStopped = false;
  const load = (async () => {
    for (let count = 1; !isStopped; count++) {
      const bytes = Buffer.alloc(block);
      bytes.writeUInt32LE(count, 0);
      await left.write([bytes], 0);
      await right.write([bytes], 0);
    }
  })();
  for (const tag of ["g1", "g2", "g3", "g4", "g5"]) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    await server.ok("vdi", "snapshot", "left", "right", "-s", tag);
  }
  isStopped = true;
  await load;
  const counts: number[] = [];
  for (const tag of ["g1", "g2", "g3", "g4", "g5"]) {
    const [onLeft, onRight] = [await counterOf(`left@${tag}`), await counterOf(`right@${tag}`)];
    assert.ok(onLeft === onRight || onLeft === onRight + 1, `${tag}: ${onLeft} and ${onRight}`);
    counts.push(onLeft);
  }
  assert.ok((counts[0] as number) > 0 && new Set(counts).size === counts.length, String(counts));
  await Promise.all([left.close(), right.close()]);

  await server.ok("vdi", "rollback", "left", "right", "-s", "g2");
  assert.equal(await counterOf("left"), counts[1]);
  assert.equal(await counterOf("right"), await counterOf("right@g2"));
});

test("a group operation in which one disk cannot take part changes none", async () => {
  await server.ok("vdi", "create", "able", "1M");
  await server.ok("vdi", "snapshot", "able", "-s", "here");
  const missing = await server.cli("vdi", "snapshot", "able", "nobody", "-s", "there");
  assert.equal(missing.exitCode, 5);
  assert.match(missing.stderr, /nobody/);
  assert.equal((await entriesOf("able")).length, 2);
  await server.ok("vdi", "create", "other", "1M");
  await write("able", 0, block, 9);
  const rollback = await server.cli("vdi", "rollback", "able", "other", "-s", "here");
  assert.equal(rollback.exitCode, 5);
  assert.equal(await valueAt("able", 0, block), 9);
});

test("nbdinfo lists the disks", { skip: requireTool("nbdinfo", "libnbd-bin") }, async () => {
  await server.ok("vdi", "create", "listed", "1M");
  const said = await runTool("nbdinfo", ["--json", "--list", server.uri("", "tcp")]);
  const { exports } = JSON.parse(said) as { exports: { "export-name": string }[] };
  const names = exports.map((entry) => entry["export-name"]);
  assert.ok(names.includes("listed"));
});

async function counterOf(name: string): Promise<number> {
  const client = await server.connect(name);
  const bytes = Buffer.alloc(block);
  await client.read(bytes, 0);
  await client.close();
  return bytes.readUInt32LE(0);
}

async function storeInfo(): Promise<CallOutput<"store.info">> {
  return (await server.json("store", "info")) as CallOutput<"store.info">;
}
