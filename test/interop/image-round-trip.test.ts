import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { blockBytes } from "../../src/block/block-device.ts";
import { changeAtRandom } from "../support/random-changes.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";

const mebibyte = 2 ** 20;
const imageBytes = 512 * mebibyte;

const missing =
  requireTool("mkfs.ext4", "e2fsprogs") ||
  requireTool("qemu-img", "qemu-utils") ||
  requireTool("nbdinfo", "libnbd-bin") ||
  requireTool("nbdcopy", "libnbd-bin");

/** Real files of many sizes, binaries and text. */
const files = join(import.meta.dirname, "../../node_modules/@typescript");

interface NbdExtent {
  offset: number;
  length: number;
  type: number;
}
interface QemuExtent {
  start: number;
  length: number;
  zero: boolean;
  data: boolean;
  present: boolean;
}

describe("an ext4 image of 512 MiB", { skip: missing }, () => {
  let scratch: Scratch;
  let server: ServerProcess;
  let image = "";
  let isData: Uint8Array;
  const disk = () => server.uri("disk");

  before(async () => {
    scratch = await Scratch.create();
    image = scratch.file("image.raw");
    server = await ServerProcess.start(scratch.file("store"));
    await runTool("mkfs.ext4", ["-q", "-F", "-d", files, image, `${imageBytes / mebibyte}M`]);
    isData = await blocksWithData(image);
    await server.ok("vdi", "create", "disk", String(imageBytes));
    const formats = ["-f", "raw", "-O", "raw"];
    await runTool("qemu-img", ["convert", "-n", ...formats, image, server.uri("disk", "tcp")]);
  });

  after(async () => {
    await server[Symbol.asyncDispose]();
    await scratch[Symbol.asyncDispose]();
  });

  test("comes out with nbdcopy as it went in with qemu-img convert", async () => {
    const copy = scratch.file("copy.raw");
    await runTool("nbdcopy", [disk(), copy]);
    await runTool("cmp", [image, copy]);
    await runTool("e2fsck", ["-f", "-n", copy]);
    const said = await runTool("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, disk()]);
    assert.match(said, /identical/);
  });

  test("nbdinfo knows its size and what the disk can do", async () => {
    const { exports } = JSON.parse(await runTool("nbdinfo", ["--json", disk()]));
    const [facts] = exports;
    assert.equal(facts["export-size"], imageBytes);
    assert.equal(facts.is_read_only, false);
    assert.match(facts.content, /ext4/);
    for (const can of ["flush", "fua", "trim", "zero", "fast_zero", "multi_conn", "df", "cache"]) {
      assert.equal(facts[`can_${can}`], true, can);
    }
  });

  test("nbdinfo, qemu-img and kelpie agree where it has data, and every block of it is there", async () => {
    const seen = dataOf(await nbdMap(disk(), "base:allocation"), ({ type }) => type === 0);
    const blocks = { missing: 0, needless: 0 };
    for (let block = 0; block < isData.length; block++) {
      if (isData[block] === 1 && seen[block] === 0) blocks.missing++;
      if (isData[block] === 0 && seen[block] === 1) blocks.needless++;
    }
    assert.deepEqual(blocks, { missing: 0, needless: 0 });

    const map = await runTool("qemu-img", ["map", "--output=json", "-f", "raw", disk()]);
    const qemu = (JSON.parse(map) as QemuExtent[]).map((extent) => ({
      offset: extent.start,
      length: extent.length,
      type: extent.zero ? 3 : 0,
    }));
    assert.deepEqual(
      dataOf(qemu, ({ type }) => type === 0),
      seen,
    );

    const own = (await server.json("vdi", "map", "disk")) as (NbdExtent & { kind: string })[];
    assert.deepEqual(
      dataOf(own, ({ kind }) => kind === "data"),
      seen,
    );
  });

  test("nbdinfo lists exactly the blocks changed since a snapshot, and their depth", async () => {
    await server.ok("vdi", "snapshot", "disk", "-s", "before");
    const client = await server.connect("disk");
    const changed = await changeAtRandom(client, { seed: 20_261, isData, changes: 300 });
    await client.close();
    assert.ok(changed.blocks.some((value) => value === 1));

    const dirty = await nbdMap(disk(), "qemu:dirty-bitmap:before");
    assert.deepEqual(
      dataOf(dirty, ({ type }) => type === 1),
      changed.blocks,
    );
    const diff = (await server.json("vdi", "diff", "disk", "-F", "before")) as NbdExtent[];
    assert.deepEqual(
      dataOf(diff, () => true),
      changed.blocks,
    );

    const depth = await nbdMap(disk(), "qemu:allocation-depth");
    const expected = isData.map((value, block) => {
      if (changed.blocks[block] === 1) return changed.isData[block] === 1 ? 1 : 0;
      return value === 1 ? 2 : 0;
    });
    assert.deepEqual(valuesOf(depth), expected);
  });

  test("the snapshot still is the image", async () => {
    const said = await runTool("qemu-img", [
      ...["compare", "-f", "raw", "-F", "raw"],
      image,
      server.uri("disk@before"),
    ]);
    assert.match(said, /identical/);
  });

  test("changes between two snapshots are told of each as of the disk", async () => {
    await server.ok("vdi", "snapshot", "disk", "-s", "after");
    const client = await server.connect("disk");
    await client.write([Buffer.alloc(blockBytes, 7)], imageBytes - blockBytes);
    await client.close();
    const sinceAfter = await nbdMap(disk(), "qemu:dirty-bitmap:after");
    assert.deepEqual(
      sinceAfter.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]),
      [[imageBytes - blockBytes, blockBytes]],
    );
    const between = await nbdMap(server.uri("disk@after"), "qemu:dirty-bitmap:before");
    const diff = await server.json("vdi", "diff", "disk", "-F", "before", "-s", "after");
    assert.deepEqual(
      dataOf(between, ({ type }) => type === 1),
      dataOf(diff as NbdExtent[], () => true),
    );
  });
});

async function nbdMap(uri: string, context: string): Promise<NbdExtent[]> {
  return JSON.parse(await runTool("nbdinfo", ["--json", `--map=${context}`, uri]));
}

/** For each block of a file, 1 if it has a byte that is not zero. */
async function blocksWithData(path: string): Promise<Uint8Array> {
  const found = new Uint8Array(imageBytes / blockBytes);
  const handle = await open(path);
  const chunk = Buffer.alloc(4 * mebibyte);
  const zeros = Buffer.alloc(blockBytes);
  for (let offset = 0; offset < imageBytes; offset += chunk.length) {
    await handle.read(chunk, 0, chunk.length, offset);
    for (let at = 0; at < chunk.length; at += blockBytes) {
      const isZero = chunk.compare(zeros, 0, blockBytes, at, at + blockBytes) === 0;
      found[(offset + at) / blockBytes] = isZero ? 0 : 1;
    }
  }
  await handle.close();
  return found;
}

/** For each block of the disk, 1 if an extent that counts covers it. */
function dataOf<E extends { offset: number; length: number }>(
  extents: readonly E[],
  counts: (extent: E) => boolean,
): Uint8Array {
  const blocks = new Uint8Array(imageBytes / blockBytes);
  for (const extent of extents) {
    assert.equal(extent.offset % blockBytes, 0);
    assert.equal(extent.length % blockBytes, 0);
    if (counts(extent)) fill(blocks, extent, 1);
  }
  return blocks;
}

/** For each block of the disk, the value of its extent. */
function valuesOf(extents: readonly NbdExtent[]): Uint8Array {
  const blocks = new Uint8Array(imageBytes / blockBytes);
  for (const extent of extents) fill(blocks, extent, extent.type);
  return blocks;
}

function fill(
  blocks: Uint8Array,
  { offset, length }: { offset: number; length: number },
  value: number,
): void {
  blocks.fill(value, offset / blockBytes, (offset + length) / blockBytes);
}
