import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { bytesOf, type CliResult, runCli } from "../../test/support/cli-run.ts";
import { FakeStore } from "../../test/support/fake-control.ts";
import { OriginalSheep } from "../../test/support/sheep/original-sheep.ts";
import { SheepServer } from "../../test/support/sheep/sheep-server.ts";
import { KelpieError } from "../base/errors.ts";
import { createNodeHost } from "../host/node/node-host.ts";
import { connectNbd } from "../nbd/client.ts";
import { parseNbdUri } from "../nbd/uri.ts";
import { result } from "../sheepdog/results.ts";
import { inodeEntriesAt } from "../sheepdog/wire-inode.ts";
import { opcode } from "../sheepdog/wire-opcodes.ts";
import { decodeObjectFields } from "../sheepdog/wire-request.ts";

const host = createNodeHost({ logLevel: "silent" });

/** An original node on a socket, and command lines whose store it is. */
async function cluster(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-cluster-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const sheep = new OriginalSheep({ blockSizeShift: 20 });
  const path = join(directory, "sock");
  const server = new SheepServer({ address: { kind: "unix", path } }, { sheep });
  await server.listen(host.net);
  t.after(() => server.stop());
  const settings = {
    store: new FakeStore(),
    directory: `sheepdog+unix:///?socket=${path}`,
    env: { HOME: directory },
    openLocal: () => Promise.reject(new KelpieError("io", "opened a store of its own")),
  };
  const kelpie = (line: string, ...stdin: string[]): Promise<CliResult> =>
    runCli(line.split(" "), { ...settings, stdin: bytesOf(...stdin) });
  return { sheep, server, kelpie, settings };
}

async function said(result: Promise<CliResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

test("a disk that is deleted while a cluster's disks are listed is not in the list", async (t) => {
  const { kelpie, server, sheep } = await cluster(t);
  for (const name of ["a", "b", "c"]) await said(kelpie(`vdi create ${name} 6M`));
  const vid = sheep.lookup("b", "", 0);
  server.intercept = ({ prefix, header }) => {
    if (prefix.opcode !== opcode.readObject) return undefined;
    const { oid, offset } = decodeObjectFields(header, 0);
    if (oid?.kind !== "inode" || oid.vid !== vid || offset < inodeEntriesAt) return undefined;
    server.intercept = undefined;
    sheep.deleteVdi("b", "", 0);
    return undefined;
  };
  const list = JSON.parse(await said(kelpie("vdi list --json"))) as { name: string }[];
  assert.equal(server.intercept, undefined, "it was deleted before its map was read");
  assert.deepEqual(
    list.map(({ name }) => name),
    ["a", "c"],
  );
});

test("a backup of what changed reads no object that did not", async (t) => {
  const { kelpie, server } = await cluster(t);
  await said(kelpie("vdi create d 6M"));
  await said(kelpie("vdi write d 0", "x".repeat(3 * 2 ** 20)));
  await said(kelpie("vdi snapshot d -s one"));
  await said(kelpie("vdi write d 1048576", "y"));
  await said(kelpie("vdi snapshot d -s two"));
  const read = new Set<number>();
  server.intercept = ({ prefix, header }) => {
    const { oid } = decodeObjectFields(header, 0);
    if (prefix.opcode === opcode.readObject && oid?.kind === "data") read.add(oid.index);
    return undefined;
  };
  await said(kelpie("vdi backup d -F one -s two"));
  assert.deepEqual([...read], [1]);
});

test("a remedy can be typed", async (t) => {
  const { kelpie, server, settings } = await cluster(t);
  const run = (...words: string[]) => runCli(words, settings);
  await said(run("vdi", "create", "my disk", "1M"));
  await said(kelpie("vdi list"));
  await said(run("vdi", "snapshot", "my disk", "-s", "before it"));
  server.intercept = ({ prefix }) => (prefix.opcode === opcode.newVdi ? result.noSpace : undefined);
  const { stderr } = await run("vdi", "rollback", "my disk", "-s", "#1");
  assert.match(stderr, /kelpie --store 'sheepdog\+unix:.*' vdi rollback 'my disk' -s '#1'/);
});

test("commands work on a cluster of the original as on a store", async (t) => {
  const { kelpie, sheep } = await cluster(t);
  await said(kelpie("vdi create d 3M"));
  await said(kelpie("vdi write d 100", "hello"));
  assert.equal(await said(kelpie("vdi snapshot d -s first")), "d: snapshot #1 first\n");
  await said(kelpie("vdi write d 102", "LLO"));
  assert.equal(await said(kelpie("vdi read d 100 5")), "heLLO");
  assert.equal(await said(kelpie("vdi read d@first 100 5")), "hello");
  assert.equal(await said(kelpie("vdi read d 100 5 -s 1")), "hello");
  await said(kelpie("vdi clone d -s first c"));
  await said(kelpie("vdi rollback d -s first"));
  assert.equal(await said(kelpie("vdi read d 100 5")), "hello");
  await said(kelpie("vdi resize d 4M"));
  const listed = JSON.parse(await said(kelpie("vdi list --json"))) as Record<string, unknown>[];
  assert.deepEqual(
    listed.map(({ name, kind, snapId, tag, sizeBytes, exclusiveBytes, sharedBytes, clone }) => [
      name,
      kind,
      snapId,
      tag,
      sizeBytes,
      exclusiveBytes,
      sharedBytes,
      clone,
    ]),
    [
      ["c", "working", 1, "", 3 * 2 ** 20, 0, 2 ** 20, true],
      ["d", "snapshot", 1, "first", 3 * 2 ** 20, 2 ** 20, 0, false],
      ["d", "working", 2, "", 4 * 2 ** 20, 0, 2 ** 20, false],
    ],
  );
  assert.match(await said(kelpie("vdi tree d")), /d \(you are here\)/);
  assert.match(await said(kelpie("vdi info d -s first")), /Snapshot id: +1\n/);
  await said(kelpie("vdi write d 2M", "more"));
  const diff = JSON.parse(await said(kelpie("vdi diff d -F first --json"))) as unknown;
  assert.deepEqual(diff, [{ offset: 2 * 2 ** 20, length: 2 ** 20, kind: "changed" }]);
  await said(kelpie("vdi delete d -s first"));
  await said(kelpie("vdi delete d"));
  assert.equal(await said(kelpie("vdi read c 100 5")), "hello");
  assert.deepEqual(sheep.inconsistencies(), []);
});

test("what a cluster cannot do says so, with the exit code of a failure", async (t) => {
  const { kelpie } = await cluster(t);
  await said(kelpie("vdi create d 1M"));
  await said(kelpie("vdi create e 1M"));
  for (const line of ["vdi undelete d", "vdi flatten d", "store info", "vdi snapshot d e -s x"]) {
    const { exitCode, stderr } = await kelpie(line);
    assert.equal(exitCode, 1, line);
    assert.match(stderr, /Sheepdog cluster/);
  }
  assert.equal((await kelpie("vdi info nothing")).exitCode, 5);
  assert.equal((await kelpie("vdi create d 1M")).exitCode, 3);
});

test("a cluster that does not answer, and a URI that names a disk", async (t) => {
  const { kelpie, settings, server } = await cluster(t);
  await server.stop();
  const { exitCode, stderr } = await kelpie("vdi list");
  assert.equal(exitCode, 2);
  assert.match(stderr, /no Sheepdog server answers/);
  const named = await runCli(["--store", "sheepdog://127.0.0.1/disk", "vdi", "list"], settings);
  assert.equal(named.exitCode, 64);
  assert.match(named.stderr, /--store sheepdog:\/\/127\.0\.0\.1:7000 /);
});

test("serve is a gateway: NBD writes a disk, commands take snapshots of it meanwhile", async (t) => {
  const { kelpie, sheep, settings } = await cluster(t);
  await said(kelpie("vdi create d 3M"));
  const interrupt = new AbortController();
  const shown = Promise.withResolvers<string>();
  const serving = runCli(["serve", "--json", "--http", "off", "--nbd", "127.0.0.1:0"], {
    ...settings,
    signal: interrupt.signal,
    onStdout: shown.resolve,
  });
  serving.then(({ stderr }) => shown.reject(new Error(stderr)), shown.reject);
  const info = JSON.parse(await shown.promise) as { nbd: string[]; store: string };
  assert.equal(info.store, settings.directory);
  const { address } = parseNbdUri(info.nbd[0] ?? "");
  const disk = await connectNbd({ address, exportName: "d" }, host);
  const write = (byte: number) => disk.write([new Uint8Array(512).fill(byte)], 0);
  await write(1);
  await said(kelpie("vdi snapshot d -s one"));
  await write(2);
  // Another client of the cluster takes one, too; the gateway goes on to the new working VDI.
  const vid = sheep.lookup("d", "", 0);
  sheep.newVdi({ ...sheep.header(vid), name: "d", baseVid: vid, snapId: 1 });
  await write(3);
  const first = async (exportName: string) => {
    const device = await connectNbd({ address, exportName }, host);
    const target = new Uint8Array(1);
    await device.read(target, 0);
    await device.close();
    return target[0];
  };
  assert.deepEqual([await first("d@one"), await first("d@#2"), await first("d")], [1, 2, 3]);
  const refused = await kelpie("vdi rollback d -s one");
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /in use/);
  await said(kelpie("vdi rollback d -s one --live"));
  const target = new Uint8Array(1);
  await disk.read(target, 0);
  assert.equal(target[0], 1);
  await write(4);
  await disk.close();
  interrupt.abort(new KelpieError("closed", "interrupted"));
  assert.equal((await serving).exitCode, 0);
  assert.equal(await said(kelpie("vdi read d 0 1")), "\u0004");
  assert.deepEqual(sheep.inconsistencies(), []);
});
