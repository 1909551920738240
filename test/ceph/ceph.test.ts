import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "../../sim/random.ts";
import type { NbdClient } from "../../src/nbd/client.ts";
import { Ceph, cephIsMissing } from "../support/ceph.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";

const blockBytes = 4096;
const blocks = 1024;
/** For a Ceph that starts, on a machine that is busy. */
const timeout = 240_000;

describe("a store in a real Ceph", { skip: cephIsMissing, timeout }, () => {
  let ceph: Ceph;
  let scratch: Scratch;
  let stores = 0;

  before(async () => {
    scratch = await Scratch.create();
    ceph = await Ceph.start();
  });

  after(async () => {
    await ceph?.[Symbol.asyncDispose]();
    await scratch?.[Symbol.asyncDispose]();
  });

  /** A place of a test's own. */
  function place(): { url: string; local: string; env: Record<string, string> } {
    const name = `store-${++stores}`;
    return { url: `s3://${ceph.bucket}/${name}`, local: scratch.file(name), env: ceph.env };
  }

  it("has snapshots, clones and what was rolled back, from the bucket alone", async () => {
    const where = place();
    const expected = new Map<string, Buffer>();
    {
      await using server = await ServerProcess.startS3(where);
      await server.ok("vdi", "create", "disk", "64M");
      const nbd = await server.connect("disk");
      const disk = Buffer.alloc(blocks * blockBytes);
      for (const [tag, byte] of [
        ["one", 1],
        ["two", 2],
        ["three", 3],
      ] as const) {
        for (let block = byte; block < blocks; block += byte) {
          disk.fill(byte, block * blockBytes, (block + 1) * blockBytes);
        }
        await nbd.write([disk], 0);
        await server.ok("vdi", "snapshot", "disk", "-s", tag);
        expected.set(`disk@${tag}`, Buffer.from(disk));
      }
      await nbd.close();
      await server.ok("vdi", "clone", "-s", "two", "disk", "copy");
      await server.ok("vdi", "rollback", "disk", "-s", "one");
      for (const [name, base, byte] of [
        ["copy", "disk@two", 77],
        ["disk", "disk@one", 88],
      ] as const) {
        const client = await server.connect(name);
        await client.write([Buffer.alloc(blockBytes, byte)], 5 * blockBytes);
        await client.flush();
        const content = Buffer.from(expected.get(base) as Buffer);
        expected.set(name, content.fill(byte, 5 * blockBytes, 6 * blockBytes));
        await client.close();
      }
      await server.stop("SIGKILL");
    }
    await rm(where.local, { recursive: true });
    await using server = await ServerProcess.startS3(where, ["--take-over"]);
    for (const [name, content] of expected) {
      const client = await server.connect(name);
      const found = Buffer.alloc(content.length);
      await client.read(found, 0);
      assert.ok(found.equals(content), `${name} is not what it was`);
      await client.close();
    }
    const check = (await server.json("store", "check")) as { findings: unknown[] };
    assert.deepEqual(check.findings, []);
    const info = (await server.json("store", "info")) as {
      remote: { requests: Record<string, { requests: number }> };
    };
    assert.ok((info.remote.requests.get?.requests ?? 0) > 0);
    assert.equal((await server.stop()).exitCode, 0);
  });

  it("loses nothing that was answered when the process is killed under writes", async () => {
    const where = place();
    const world = new KillWorld();
    for (let round = 1; round <= 5; round++) {
      await using server = await ServerProcess.startS3(where);
      if (round === 1) await server.ok("vdi", "create", "disk", "4M");
      const nbd = await server.connect("disk");
      await world.verify(nbd);
      const load = Array.from({ length: 8 }, (_, at) => world.load(nbd, at, round));
      await sleep(500);
      await server.stop("SIGKILL");
      await Promise.all(load);
      await nbd.close().catch(() => {}); // it is gone
    }
    await using server = await ServerProcess.startS3(where);
    const nbd = await server.connect("disk");
    await world.verify(nbd);
    await nbd.close();
    assert.ok(world.writes > 500, `only ${world.writes} writes were answered`);
  });

  it("lets clients wait while Ceph's S3 server or its OSD is stopped, and fails nothing", async () => {
    const where = place();
    await using server = await ServerProcess.startS3(where);
    await server.ok("vdi", "create", "disk", "64M");
    const nbd = await server.connect("disk");
    for (const [stop, start] of [
      [() => ceph.stopS3(), () => ceph.startS3()],
      [() => ceph.stopOsd(), () => ceph.startOsd()],
    ] as const) {
      await nbd.write([Buffer.alloc(blockBytes, 1)], 0);
      await nbd.flush();
      await stop();
      await nbd.write([Buffer.alloc(blockBytes, 2)], 0);
      let isFlushed = false;
      const flushing = Promise.resolve(nbd.flush()).then(() => {
        isFlushed = true;
      });
      await sleep(3_000);
      assert.equal(isFlushed, false, "a flush was answered that the object store does not have");
      await start();
      await flushing;
    }
    await nbd.close();
    assert.equal((await server.stop()).exitCode, 0);
  });

  it("is refused while another gateway has it, and free when that one is stopped", async () => {
    const where = place();
    {
      await using server = await ServerProcess.startS3(where);
      await server.ok("vdi", "create", "disk", "64M");
      const other = { ...where, local: scratch.file("elsewhere") };
      await assert.rejects(ServerProcess.startS3(other), /the store is in use by/);
      assert.equal((await server.stop()).exitCode, 0);
    }
    await using server = await ServerProcess.startS3({ ...where, local: scratch.file("other") });
    assert.match(await server.ok("vdi", "list"), /disk/);
  });
});

/** What each block must hold, or may. */
class KillWorld {
  readonly #certain = new Uint32Array(blocks);
  readonly #perhaps = new Map<number, Set<number>>();
  #next = 1;
  writes = 0;

  /** Writes blocks of its own, until the server is gone. */
  async load(nbd: NbdClient, writer: number, seed: number): Promise<void> {
    const random = new SeededRandom(seed * 100 + writer);
    for (;;) {
      const block = random.below(blocks / 8) * 8 + writer;
      const number = this.#next++;
      const maybe = this.#perhaps.get(block) ?? new Set();
      this.#perhaps.set(block, maybe.add(number));
      try {
        await nbd.write([contentOf(number)], block * blockBytes);
        if (random.below(30) === 0) await nbd.flush();
      } catch {
        return; // killed: this write may have happened or not
      }
      this.#certain[block] = number;
      this.#perhaps.delete(block);
      this.writes++;
    }
  }

  async verify(nbd: NbdClient): Promise<void> {
    const all = Buffer.alloc(blocks * blockBytes);
    await nbd.read(all, 0);
    for (let block = 0; block < blocks; block++) {
      const found = all.subarray(block * blockBytes, (block + 1) * blockBytes);
      const number = found.readUInt32LE(0);
      const certain = this.#certain[block] as number;
      const isAllowed = number === certain || this.#perhaps.get(block)?.has(number) === true;
      assert.ok(isAllowed, `block ${block} holds write ${number}, not ${certain}`);
      assert.ok(found.equals(number === 0 ? Buffer.alloc(blockBytes) : contentOf(number)));
      this.#certain[block] = number;
      this.#perhaps.delete(block);
    }
  }
}

function contentOf(number: number): Buffer {
  const content = Buffer.alloc(blockBytes, number & 0xff);
  content.writeUInt32LE(number, 0);
  return content;
}
