import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "../../sim/random.ts";
import type { Control } from "../../src/control/calls.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { connectControl } from "../../src/http/control-client.ts";
import { connectNbd, type NbdClient } from "../../src/nbd/client.ts";
import { isSoak } from "../support/soak.ts";

/** Times the server is killed; the whole number when nothing else is said. */
const kills = Number(process.env.KELPIE_KILLS ?? (isSoak ? 300 : 50));
const firstSeed = Number(process.env.KELPIE_KILL_SEED ?? Math.floor(Math.random() * 1e9));
const blockBytes = 4096;
const blocks = 2048;
const writers = 16;

let directory = "";
const host = createNodeHost({});
const mainPath = join(import.meta.dirname, "../../bin/kelpie");

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "kelpie-kill-"));
});

after(async () => {
  await rm(directory, { recursive: true, force: true });
});

test(`${kills} kills under load lose nothing acknowledged (seed ${firstSeed})`, async () => {
  const world = new KillWorld(directory);
  await world.create();
  for (let seed = firstSeed; seed < firstSeed + kills; seed++) {
    try {
      await world.round(new SeededRandom(seed));
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  // The test is worth something only if there was something to lose.
  assert.ok(world.writes > kills * 20, `only ${world.writes} writes were acknowledged`);
  assert.ok(world.taken > 0, `only ${world.taken} snapshots were taken`);
});

/** One disk under a load whose every acknowledgement is kept. */
class KillWorld {
  readonly #store: string;
  /** What a block holds for certain; and what it may hold instead, because no answer came. */
  readonly #certain = new Uint32Array(blocks);
  readonly #perhaps = new Map<number, Set<number>>();
  readonly snapshots = new Map<string, string>();
  #next = 1;
  #tag = 0;
  #killed = false;
  writes = 0;
  taken = 0;

  constructor(store: string) {
    this.#store = store;
  }

  async create(): Promise<void> {
    const store = await openLocalStore({ directory: this.#store, create: true }, { host });
    await store.control.call("vdi.create", { name: "disk", sizeBytes: blocks * blockBytes });
    await store.close();
  }

  async round(random: SeededRandom): Promise<void> {
    this.#killed = false;
    const server = await startServer(this.#store);
    const nbd = await Promise.all([connect(this.#store), connect(this.#store)]);
    const running = await connectControl(`${this.#store}/control.sock`);
    assert.ok(running !== undefined);
    const load = [
      ...Array.from({ length: writers }, (_, at) =>
        this.#write(nbd[at % 2] as NbdClient, at, random),
      ),
      this.#snapshot(running.control, nbd[0]),
    ];
    await sleep(60 + random.below(400));
    // On a slow machine no snapshot is taken and read in that time.
    if (random.below(8) === 0) await this.#untilTaken(this.taken + 1);
    this.#killed = true;
    server.kill("SIGKILL");
    await Promise.all(load);
    await Promise.all(nbd.map((client) => client.close().catch(() => {})));
    await this.#verify();
  }

  async #untilTaken(count: number): Promise<void> {
    for (let waitedMs = 0; this.taken < count && waitedMs < 10_000; waitedMs += 10) await sleep(10);
  }

  /** Each writer has blocks of its own, so that what a block holds is known. */
  async #write(client: NbdClient, writer: number, random: SeededRandom): Promise<void> {
    for (;;) {
      const block = random.below(blocks / writers) * writers + writer;
      const number = this.#next++;
      const maybe = this.#perhaps.get(block) ?? new Set();
      maybe.add(number);
      this.#perhaps.set(block, maybe);
      try {
        await client.write([contentOf(number)], block * blockBytes, {
          fua: random.below(20) === 0,
        });
        if (random.below(30) === 0) await client.flush();
      } catch (error) {
        // Once the server is dead this one may or may not have happened.
        if (!this.#killed) throw error;
        return;
      }
      this.#certain[block] = number;
      this.#perhaps.delete(block);
      this.writes++;
    }
  }

  /** Snapshots, and what each of them reads as: that is what it must read as for ever. */
  async #snapshot(control: Control, client: NbdClient | undefined): Promise<void> {
    assert.ok(client !== undefined);
    try {
      for (;;) {
        const tag = `s${this.#tag++}`;
        await control.call("vdi.snapshot", { names: ["disk"], tag });
        const frozen = await connect(this.#store, `disk@${tag}`);
        const target = Buffer.alloc(blocks * blockBytes);
        await frozen.read(target, 0);
        this.snapshots.set(tag, digestOf(target));
        this.taken++;
        await frozen.close();
        await sleep(30);
      }
    } catch (error) {
      // Any failure is right once the server is dead, and none before.
      if (!this.#killed) throw error;
    }
  }

  async #verify(): Promise<void> {
    const store = await openLocalStore({ directory: this.#store }, { host });
    try {
      const opened = await store.exports.open("disk", { protocol: "library", peer: "test" });
      const content = Buffer.alloc(blocks * blockBytes);
      await opened.device.read(content, 0);
      await opened.close();
      for (let block = 0; block < blocks; block++) this.#verifyBlock(block, content);
      for (const [tag, digest] of this.snapshots) {
        const snapshot = await store.exports.open(`disk@${tag}`, {
          protocol: "library",
          peer: "test",
        });
        const frozen = Buffer.alloc(blocks * blockBytes);
        await snapshot.device.read(frozen, 0);
        assert.equal(digestOf(frozen), digest, `snapshot ${tag} changed`);
        await snapshot.close();
      }
      await this.#forgetOldSnapshots(store.control);
      const { findings } = await store.control.call("store.check", {});
      const damage = findings.filter((finding) => finding.severity === "damage");
      assert.deepEqual(damage, []);
    } finally {
      await store.close();
    }
  }

  #verifyBlock(block: number, content: Buffer): void {
    const bytes = content.subarray(block * blockBytes, (block + 1) * blockBytes);
    const number = bytes.readUInt32LE(0);
    assert.ok(bytes.equals(contentOf(number)), `block ${block} is a mixture`);
    const expected = this.#certain[block];
    const maybe = this.#perhaps.get(block);
    if (number !== expected) {
      assert.ok(maybe?.has(number), `block ${block} holds ${number}, acknowledged was ${expected}`);
      this.#certain[block] = number;
    }
    this.#perhaps.delete(block);
  }

  /** Keeps the number of snapshots small, and has deletion and purge take part. */
  async #forgetOldSnapshots(control: Control): Promise<void> {
    for (const tag of [...this.snapshots.keys()].slice(0, -6)) {
      await control.call("vdi.delete", { name: "disk", snapshot: tag });
      this.snapshots.delete(tag);
    }
  }
}

async function startServer(store: string): Promise<ChildProcess> {
  const listen = ["--nbd", `unix:${store}/nbd.sock`, "--sheepdog", "off", "--http", "off"];
  const args = [mainPath, "serve", "--store", store, ...listen];
  const server = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((resolve, reject) => {
    server.stdout?.once("data", () => resolve());
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return server;
}

function connect(store: string, exportName = "disk"): Promise<NbdClient> {
  const address = { kind: "unix" as const, path: `${store}/nbd.sock` };
  return connectNbd({ address, exportName }, { net: host.net, timers: host.timers });
}

function contentOf(number: number): Buffer {
  const pattern = Buffer.alloc(4);
  pattern.writeUInt32LE(number);
  return Buffer.alloc(blockBytes, pattern);
}

function digestOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
