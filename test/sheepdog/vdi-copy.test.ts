import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SeededRandom } from "../../sim/random.ts";
import type { Exports } from "../../src/block/exports.ts";
import { openLocal } from "../../src/cli/local.ts";
import type { VdiEntry } from "../../src/control/calls.ts";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { SheepdogClient } from "../../src/sheepdog/client.ts";
import { RemoteExports } from "../../src/sheepdog/client-exports.ts";
import { saveVmState } from "../../src/sheepdog/client-points.ts";
import { RemoteVdis } from "../../src/sheepdog/client-vdis.ts";
import { decodeInodeHeader, inodeEntriesAt } from "../../src/sheepdog/wire-inode.ts";
import { opcode } from "../../src/sheepdog/wire-opcodes.ts";
import { checkStore } from "../../src/store/check.ts";
import { type CliResult, runCli } from "../support/cli-run.ts";
import { FakeStore } from "../support/fake-control.ts";
import { OriginalSheep } from "../support/sheep/original-sheep.ts";
import { SheepServer } from "../support/sheep/sheep-server.ts";
import { isSoak } from "../support/soak.ts";
import { serveStoreOn } from "./served-store.ts";

const host = createNodeHost({ logLevel: "silent" });
const mebibyte = 2 ** 20;

/** An original node, a client to fill it with, and command lines on a store of Kelpie's. */
async function world(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-copy-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const sheep = new OriginalSheep({ blockSizeShift: 20 });
  const address = { kind: "unix", path: join(directory, "sock") } as const;
  const server = new SheepServer({ address }, { sheep });
  await server.listen(host.net);
  const client = await SheepdogClient.connect({ nodes: [address] }, host);
  t.after(() => server.stop());
  t.after(() => client.close());
  const vdis = new RemoteVdis({ url: "sheepdog://test" }, { client });
  const settings = {
    store: new FakeStore(),
    directory: join(directory, "store"),
    env: { HOME: directory },
    openLocal,
  };
  const kelpie = (...words: string[]): Promise<CliResult> => runCli(words, settings);
  const uri = (name: string) => `sheepdog+unix:///${name}?socket=${address.path}`;
  return { sheep, server, vdis, kelpie, uri, directory, settings };
}

async function said(result: Promise<CliResult>): Promise<Buffer> {
  const { exitCode, stdoutBytes, stderr } = await result;
  assert.equal(exitCode, 0, stderr);
  return stdoutBytes;
}

/** Every point of a disk reads the same in the copy. */
async function assertSame(
  { vdis, settings, uri }: Awaited<ReturnType<typeof world>>,
  names: { from: string; to: string },
): Promise<VdiEntry[]> {
  const list = async (name: string, store: string) =>
    JSON.parse(
      (await said(runCli(["--store", store, "vdi", "list", "--json", name], settings))).toString(),
    ) as VdiEntry[];
  const original = await list(names.from, uri(""));
  const copy = await list(names.to, settings.directory);
  const shown = (entries: VdiEntry[]) =>
    entries.map(({ kind, snapId, tag, sizeBytes, createdMs }) => {
      return [kind, snapId, tag, sizeBytes, kind === "snapshot" ? createdMs : 0];
    });
  assert.deepEqual(shown(copy), shown(original));
  // All at once, and not by commands that open the store for each.
  const store = await openLocalStore({ directory: settings.directory }, { host });
  try {
    const remote = new RemoteExports({ vdis });
    for (const { kind, snapId } of original) {
      const which = kind === "snapshot" ? `@#${snapId}` : "";
      const there = await contents(remote, `${names.from}${which}`);
      const here = await contents(store.exports, `${names.to}${which}`);
      assert.equal(Buffer.compare(here, there), 0, `snapshot ${snapId}`);
    }
  } finally {
    await store.close();
  }
  return copy;
}

async function contents(exports: Exports, name: string): Promise<Uint8Array> {
  const { device, close } = await exports.open(name, { protocol: "nbd", peer: "a test" });
  const bytes = new Uint8Array(device.sizeBytes);
  await device.read(bytes, 0);
  await close();
  return bytes;
}

test("a copy has all snapshots, tags, ids and times, and takes the space of the original", async (t) => {
  const parts = await world(t);
  const { vdis, kelpie, uri, sheep, directory } = parts;
  const random = new SeededRandom(7);
  await vdis.create("disk", 4 * mebibyte);
  await vdis.volumes.using("disk", async (volume) => {
    await volume.write([random.bytes(3 * mebibyte)], 0);
    for (let round = 1; round <= 20; round++) {
      const options = round % 5 === 2 ? await machineState(vdis, volume.header, round) : {};
      await vdis.snapshot("disk", round % 3 === 0 ? "" : `round ${round}`, options);
      await volume.write([random.bytes(4096)], random.below(1000) * 4096);
      if (round === 8) await vdis.deleteSnapshot("disk", "#5");
      if (round === 10) await vdis.rollback("disk", "#3", true);
      if (round === 12) await volume.zero(2 * mebibyte, mebibyte);
      if (round === 14) await vdis.resize("disk", 5 * mebibyte);
    }
  });
  const result = JSON.parse(
    (await said(kelpie("vdi", "copy", "--json", uri("disk"), "new"))).toString(),
  );
  assert.deepEqual([result.disks, result.snapshots], [1, 19]);
  const copy = await assertSame(parts, { from: "disk", to: "new" });
  const used = copy.reduce((sum, { exclusiveBytes }) => sum + exclusiveBytes, 0);
  const original = sheep.objects.size * mebibyte;
  assert.ok(used < original, `${used} of ${original}`);
  const info = JSON.parse((await said(kelpie("store", "info", "--json"))).toString()) as {
    liveBytes: number;
  };
  assert.ok(info.liveBytes < 6.5 * mebibyte, `${info.liveBytes} bytes`);
  assert.deepEqual(readdirSync(join(directory, ".cache/kelpie/copies")), []);
  await assertMachineStates(parts, "new");
  // It is a disk like any other now, and not copied over.
  assert.equal((await kelpie("vdi", "copy", uri("disk"), "new")).exitCode, 3);
});

/** Saved as QEMU does, from `round` bytes on unlike any other; some of it is never written. */
async function machineState(
  { client }: RemoteVdis,
  disk: Parameters<typeof saveVmState>[1],
  round: number,
) {
  for (const index of [0, 2]) {
    const bytes = new SeededRandom(round + index).bytes(mebibyte / 2);
    const offset = index * mebibyte;
    await saveVmState(client, disk, { offset, bytes: bytes.subarray(0, 1000) });
    await saveVmState(client, disk, { offset: offset + 1000, bytes: bytes.subarray(1000) });
  }
  return { vmStateBytes: 2.25 * mebibyte + round, vmClockNs: 1000 + round };
}

async function assertMachineStates(
  { directory }: Awaited<ReturnType<typeof world>>,
  name: string,
): Promise<void> {
  const store = await openLocalStore({ directory: join(directory, "store") }, { host });
  try {
    for (const round of [2, 7, 12, 17]) {
      const { snapId } = store.vdis.registry.findSnapshot(name, `#${round}`);
      const { vid } = await store.sheepdog.objects.lookup({ name, tag: "", snapId });
      const fields = new Uint8Array(24);
      await store.sheepdog.objects.read({ kind: "inode", vid, index: 0 }, 528, fields);
      const view = new DataView(fields.buffer);
      assert.equal(view.getBigUint64(0, true), BigInt(1000 + round));
      assert.equal(view.getBigUint64(16, true), BigInt(2.25 * mebibyte + round));
      const state = new Uint8Array(2.25 * mebibyte);
      await store.sheepdog.objects.read({ kind: "vmstate", vid, index: 0 }, 0, state);
      const expected = new Uint8Array(2.5 * mebibyte);
      for (const index of [0, 2]) {
        expected.set(new SeededRandom(round + index).bytes(mebibyte / 2), index * mebibyte);
      }
      assert.equal(Buffer.compare(state, expected.subarray(0, state.length)), 0, `round ${round}`);
    }
  } finally {
    await store.close();
  }
}

test("a copy that was interrupted anywhere goes on where it was", async (t) => {
  const parts = await world(t);
  const { vdis, kelpie, uri, server, settings } = parts;
  const random = new SeededRandom(3);
  await vdis.create("disk", 8 * mebibyte);
  await vdis.volumes.using("disk", async (volume) => {
    for (let round = 1; round <= 4; round++) {
      await volume.write([random.bytes(mebibyte / 2)], round * mebibyte + 4096);
      await vdis.snapshot("disk", `round ${round}`);
      if (round === 3) await vdis.rollback("disk", "#1", true);
    }
  });
  const count = async (run: () => Promise<CliResult>) => {
    const before = server.seen.length;
    const { exitCode } = await run();
    return { exitCode, requests: server.seen.length - before };
  };
  const whole = await count(() => kelpie("vdi", "copy", uri("disk"), "whole"));
  assert.equal(whole.exitCode, 0);
  const step = isSoak ? 1 : Math.ceil(whole.requests / 4);
  for (let after = 3; after < whole.requests; after += step) {
    const name = `after${after}`;
    let left = after;
    const interrupt = new AbortController();
    server.intercept = () => {
      left--;
      if (left === 0) interrupt.abort(new Error("interrupted"));
      return undefined;
    };
    const first = await runCli(["vdi", "copy", uri("disk"), name], {
      ...settings,
      signal: interrupt.signal,
    });
    server.intercept = undefined;
    if (first.exitCode !== 0) {
      assert.equal(first.exitCode, 130, first.stderr);
      await said(kelpie("vdi", "copy", uri("disk"), name));
    }
    await assertSame(parts, { from: "disk", to: name });
  }
});

test("a copy that was begun in one store is not gone on with in another of the same path", async (t) => {
  const parts = await world(t);
  const { vdis, kelpie, uri, directory } = parts;
  await vdis.create("disk", 8 * mebibyte);
  const random = new SeededRandom(3);
  await vdis.volumes.using("disk", (volume) => volume.write([random.bytes(8 * mebibyte)], 0));
  await interruptedCopy(parts, { reads: 1, words: [uri("disk")] });
  rmSync(join(directory, "store"), { recursive: true });
  await said(kelpie("vdi", "create", "disk", "8M"));
  const { exitCode, stderr } = await kelpie("vdi", "copy", uri("disk"));
  assert.equal(exitCode, 3);
  assert.match(stderr, /there is a disk "disk" already/);
});

test("a snapshot that somebody took of half a copy is not believed to be the original's", async (t) => {
  const parts = await world(t);
  const { vdis, kelpie, uri } = parts;
  await vdis.create("disk", 8 * mebibyte);
  const random = new SeededRandom(3);
  await vdis.volumes.using("disk", (volume) => volume.write([random.bytes(8 * mebibyte)], 0));
  await vdis.snapshot("disk", "one");
  await interruptedCopy(parts, { reads: 1, words: [uri("disk")] });
  await said(kelpie("vdi", "snapshot", "disk", "-s", "mine"));
  const { exitCode, stderr } = await kelpie("vdi", "copy", uri("disk"));
  assert.equal(exitCode, 3);
  assert.match(stderr, /took snapshot 1 \("mine"\) of "disk", which is not copied to its end yet/);
});

function isDataOid(header: Uint8Array): boolean {
  return header[23] === 0;
}

test("--all keeps clones on what they stand on", async (t) => {
  const parts = await world(t);
  const { vdis, kelpie, uri } = parts;
  const random = new SeededRandom(5);
  await vdis.create("zero", 8 * mebibyte);
  await vdis.volumes.using("zero", (volume) => volume.write([random.bytes(4 * mebibyte)], 0));
  await vdis.snapshot("zero", "base");
  await vdis.clone("zero", "base", "a clone");
  await vdis.volumes.using("a clone", (volume) => volume.write([random.bytes(512)], 512));
  await vdis.snapshot("a clone", "own");
  await vdis.clone("a clone", "own", "third");
  await vdis.delete("zero");
  await said(kelpie("vdi", "copy", "--all", uri("")));
  for (const name of ["a clone", "third"]) await assertSame(parts, { from: name, to: name });
  const info = JSON.parse((await said(kelpie("store", "info", "--json"))).toString()) as {
    liveBytes: number;
  };
  assert.ok(info.liveBytes < 4.1 * mebibyte, `${info.liveBytes} bytes`);
  const left = JSON.parse((await said(kelpie("vdi", "list", "--json", "zero"))).toString());
  assert.deepEqual(
    left.map(({ kind }: VdiEntry) => kind),
    ["snapshot"],
  );
});

test("a copy from a server of Kelpie's has snapshots and a machine's state too", async (t) => {
  const where = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  const { net, timers } = host;
  const served = await serveStoreOn(where, { net, timers });
  const address = { ...where, port: served.port };
  const client = await SheepdogClient.connect({ nodes: [address] }, host);
  t.after(async () => {
    await client.close();
    await served.close();
  });
  const parts = {
    ...(await world(t)),
    vdis: new RemoteVdis({ url: "sheepdog://test" }, { client }),
    uri: (name: string) => `sheepdog://127.0.0.1:${served.port}/${name}`,
  };
  const { vdis, kelpie, uri, directory } = parts;
  const random = new SeededRandom(13);
  const state = random.bytes(70_000);
  await vdis.create("disk", 9 * mebibyte);
  await vdis.volumes.using("disk", async (volume) => {
    await volume.write([random.bytes(mebibyte)], 512);
    await vdis.snapshot("disk", "one");
    await volume.write([random.bytes(4096)], 8 * mebibyte);
    await saveVmState(client, volume.header, { offset: 0, bytes: state });
    await vdis.snapshot("disk", "running", { vmStateBytes: state.length, vmClockNs: 77 });
    await volume.zero(0, 4 * mebibyte);
    await vdis.snapshot("disk");
    await vdis.rollback("disk", "one", true);
    await volume.write([random.bytes(512)], 0);
  });
  await said(kelpie("vdi", "copy", uri("disk"), "new"));
  await assertSame(parts, { from: "disk", to: "new" });
  const store = await openLocalStore({ directory: join(directory, "store") }, { host });
  try {
    const { objects } = store.sheepdog;
    const { vid } = await objects.lookup({ name: "new", tag: "running", snapId: 0 });
    const copied = new Uint8Array(state.length);
    await objects.read({ kind: "vmstate", vid, index: 0 }, 0, copied);
    assert.equal(Buffer.compare(copied, state), 0);
    const header = new Uint8Array(inodeEntriesAt);
    await objects.read({ kind: "inode", vid, index: 0 }, 0, header);
    const { vmStateBytes, vmClockNs } = decodeInodeHeader(header);
    assert.deepEqual([vmStateBytes, vmClockNs], [state.length, 77]);
    const { findings } = await checkStore(store.vdis.store, { repair: false });
    assert.deepEqual(findings, []);
  } finally {
    await store.close();
  }
});

test("a copy that goes on has the snapshots that were taken since", async (t) => {
  const parts = await world(t);
  const { vdis, kelpie, uri } = parts;
  const random = new SeededRandom(3);
  for (const name of ["a", "z"]) {
    await vdis.create(name, 8 * mebibyte);
    const bytes = random.bytes((name === "a" ? 4 : 7) * mebibyte);
    await vdis.volumes.using(name, (volume) => volume.write([bytes], mebibyte));
  }
  await interruptedCopy(parts, { reads: 5, words: ["--all", uri("")] });
  // Nobody may; so what was copied is compared once more.
  await vdis.volumes.using("a", async (volume) => {
    await volume.write([random.bytes(512)], mebibyte);
    await volume.zero(2 * mebibyte, mebibyte);
  });
  for (const name of ["a", "z"]) await vdis.snapshot(name, "final");
  await said(kelpie("vdi", "copy", "--all", uri("")));
  for (const name of ["a", "z"]) await assertSame(parts, { from: name, to: name });
});

test("a copy whose beginning is gone begins anew", async (t) => {
  const parts = await world(t);
  const { vdis, kelpie, uri } = parts;
  await vdis.create("disk", 8 * mebibyte);
  await vdis.volumes.using("disk", async (volume) => {
    await volume.write([new SeededRandom(3).bytes(8 * mebibyte)], 0);
    await vdis.snapshot("disk", "one");
    await volume.write([new SeededRandom(4).bytes(8 * mebibyte)], 0);
  });
  await interruptedCopy(parts, { reads: 12, words: [uri("disk"), "new"] });
  await said(kelpie("vdi", "delete", "new", "-s", "one"));
  await said(kelpie("vdi", "delete", "new"));
  await said(kelpie("vdi", "copy", uri("disk"), "new"));
  await assertSame(parts, { from: "disk", to: "new" });
});

/** Until some objects' data have been read. */
async function interruptedCopy(
  { server, settings }: Awaited<ReturnType<typeof world>>,
  { reads, words }: { reads: number; words: string[] },
): Promise<void> {
  const interrupt = new AbortController();
  let left = reads;
  server.intercept = ({ prefix, header }) => {
    if (prefix.opcode !== opcode.readObject || !isDataOid(header)) return undefined;
    left--;
    if (left === 0) interrupt.abort(new Error("interrupted"));
    return undefined;
  };
  const context = { ...settings, signal: interrupt.signal };
  const { exitCode, stderr } = await runCli(["vdi", "copy", ...words], context);
  assert.equal(exitCode, 130, stderr);
  server.intercept = undefined;
}

test("names and tags that are not UTF-8 are read as Latin-1, and that is said", async (t) => {
  const { vdis, kelpie, uri, sheep, settings } = await world(t);
  await vdis.create("disk", mebibyte);
  for (const tag of ["one", "two"]) await vdis.snapshot("disk", tag);
  await vdis.create("b", mebibyte);
  for (const [vid, at, text] of [
    [(await vdis.find("disk", "one")).vid, 256, "f\xfcr\x85"],
    [(await vdis.find("b")).vid, 0, "b\xfccher"],
  ] as const) {
    const field = new Uint8Array(256);
    field.set(Buffer.from(text, "latin1"));
    sheep.write({ kind: "inode", vid, index: 0 }, at, field);
  }
  assert.equal((await runCli(["--store", uri(""), "vdi", "list"], settings)).exitCode, 0);
  const { exitCode, stderr } = await kelpie("vdi", "copy", "--all", uri(""));
  assert.equal(exitCode, 0, stderr);
  assert.match(stderr, /snapshot 1 of "bücher": what is not UTF-8 was read as Latin-1/);
  assert.match(stderr, /snapshot 1 of "disk": "für.*" became "für\?"/);
  for (const point of ["disk@für?", "disk@two", "bücher"]) {
    assert.equal((await kelpie("vdi", "info", point)).exitCode, 0, point);
  }
});

test("tags that Kelpie does not have become others, and that is said", async (t) => {
  const { vdis, kelpie, uri, sheep } = await world(t);
  await vdis.create("disk", mebibyte);
  await vdis.snapshot("disk", "twice");
  await vdis.snapshot("disk", "other");
  const { vid } = await vdis.find("disk", "other");
  const tag = new Uint8Array(256);
  tag.set(Buffer.from("twice"));
  sheep.write({ kind: "inode", vid, index: 0 }, 256, tag);
  const { stderr, exitCode } = await kelpie("vdi", "copy", uri("disk"));
  assert.equal(exitCode, 0);
  assert.match(stderr, /snapshot 2 of "disk": "twice" became "twice~2"/);
  assert.equal((await kelpie("vdi", "info", "disk", "-s", "twice~2")).exitCode, 0);
});

test("what cannot be copied says why", async (t) => {
  const { kelpie, uri, vdis } = await world(t);
  await vdis.create("disk", mebibyte);
  for (const [words, exitCode, text] of [
    [[uri("nothing")], 5, /has no disk "nothing"/],
    [[uri("")], 64, /names no disk/],
    [["--all", uri("disk")], 64, /every disk/],
    [[`${uri("disk")}#tag`], 64, /with all its snapshots/],
    [["nbd://127.0.0.1/disk"], 64, /no form of a Sheepdog URI/],
    [["--store", uri(""), uri("disk")], 1, /store of Kelpie's/],
  ] as const) {
    const result = await kelpie("vdi", "copy", ...words);
    assert.match(result.stderr, text);
    assert.equal(result.exitCode, exitCode, result.stderr);
  }
});
