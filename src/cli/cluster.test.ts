import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { bytesOf, type CliResult, runCli } from "../../test/support/cli-run.ts";
import { FakeStore } from "../../test/support/fake-control.ts";
import { OriginalSheep } from "../../test/support/sheep/original-sheep.ts";
import { SheepServer } from "../../test/support/sheep/sheep-server.ts";
import { createNodeHost } from "../host/node/node-host.ts";
import { result } from "../sheepdog/results.ts";
import { opcode } from "../sheepdog/wire-opcodes.ts";
import { openLocal } from "./local.ts";

const host = createNodeHost({ logLevel: "silent" });

async function world(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-cluster-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const sheep = new OriginalSheep();
  const path = join(directory, "sock");
  const server = new SheepServer({ address: { kind: "unix", path } }, { sheep });
  await server.listen(host.net);
  t.after(() => server.stop());
  const settings = { store: new FakeStore(), directory: `sheepdog+unix:///?socket=${path}` };
  const kelpie = (line: string, ...stdin: string[]): Promise<CliResult> =>
    runCli(line.split(" "), { ...settings, stdin: bytesOf(...stdin) });
  return { sheep, server, kelpie };
}

test("node list has dog's columns", async (t) => {
  const { kelpie } = await world(t);
  const { stdout } = await kelpie("node list");
  assert.deepEqual(
    stdout.split("\n").map((line) => line.trim().split(/\s+/)),
    [
      ["Id", "Host:Port", "V-Nodes", "Zone"],
      ["0", "127.0.0.1:7000", "128", "16777343"],
      ["1", "127.0.0.1:7001", "64", "16777343"],
      [""],
    ],
  );
  const nodes = JSON.parse((await kelpie("node list --json")).stdout) as unknown[];
  assert.deepEqual(nodes[1], { id: 1, host: "127.0.0.1", port: 7001, vnodes: 64, zone: 16777343 });
});

test("node info says what each has and all disks could take; one that is away says so", async (t) => {
  const { kelpie, server } = await world(t);
  server.cluster.nodes.splice(1);
  await kelpie("vdi create d 3G");
  const { stdout } = await kelpie("node info");
  assert.match(stdout, /^Id +Size +Used +Avail +Use%\n0 +1\.0 GiB +512 MiB +512 MiB +50%\n/);
  assert.match(
    stdout,
    /\nTotal +1\.0 GiB +512 MiB +512 MiB +50%\n\nTotal virtual image size 3\.0 GiB\n$/,
  );
  // Port 9 is nobody's.
  server.cluster.nodes.push({ host: "127.0.0.1", port: 9, vnodes: 1, zone: 1, spaceBytes: 1 });
  const { stderr, exitCode } = await kelpie("node info --json");
  assert.match(stderr, /127\.0\.0\.1:9/);
  assert.equal(exitCode, 2);
});

test("cluster info shows the state and the epochs, newest first", async (t) => {
  const { kelpie, server } = await world(t);
  const { stdout } = await kelpie("cluster info -v");
  const lines = stdout.split("\n");
  assert.deepEqual(lines.slice(0, 4), [
    "Cluster status: running, auto-recovery enabled",
    "Cluster store: plain with 2 redundancy policy",
    "Cluster vnodes strategy: auto",
    "Cluster vnode mode: node",
  ]);
  assert.equal(lines[6], "Epoch Time           Version [Host:Port:V-Nodes,,,]");
  const time = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d /;
  assert.match(lines[7] ?? "", time);
  assert.equal(lines[7]?.replace(time, ""), "     2 [127.0.0.1:7000:128, 127.0.0.1:7001:64]");
  assert.match(lines[8] ?? "", / {5}1 \[127/);
  server.cluster.createdMs = 0;
  assert.match((await kelpie("cluster info")).stdout, /status: the cluster is not formatted\n$/);
});

test("cluster format asks for force where there are disks, and says what it wants", async (t) => {
  const { kelpie, server, sheep } = await world(t);
  await kelpie("vdi create d 1G");
  const refused = await kelpie("cluster format");
  assert.equal(refused.exitCode, 3);
  assert.match(refused.stderr, /--force destroys/);
  const { exitCode, stdout } = await kelpie("cluster format -f -b tree -c 4:2 -l -z 23");
  assert.equal(exitCode, 0);
  assert.equal(stdout, "using backend tree store\n");
  const { copies, copyPolicy, flags, storeName, createdMs } = server.cluster;
  assert.deepEqual([copies, copyPolicy, flags, storeName], [6, 0x22, 0x0c, "tree"]);
  assert.ok(Math.abs(createdMs - Date.now()) < 60_000);
  assert.equal(sheep.blockSizeShift, 23);
  assert.equal((await kelpie("vdi list --json")).stdout, "[]\n");
  assert.equal((await kelpie("cluster format -b other")).exitCode, 2);
  for (const line of ["cluster format -c 0", "cluster format -c 3:1", "cluster format -z 12"]) {
    assert.equal((await kelpie(line)).exitCode, 64, line);
  }
});

test("cluster format wipes nothing that it could not look at, and formats what never was", async (t) => {
  const { kelpie, server, sheep } = await world(t);
  await kelpie("vdi create d 1G");
  server.intercept = ({ prefix }) => (prefix.opcode === opcode.readObject ? result.io : undefined);
  assert.equal((await kelpie("cluster format")).exitCode, 2);
  assert.equal(sheep.inUse.size, 1);
  const isAsked = (code: number) => code === opcode.readVdis || code === opcode.readDeletedVdis;
  server.intercept = ({ prefix }) => (isAsked(prefix.opcode) ? result.waitForFormat : undefined);
  assert.equal((await kelpie("cluster format")).exitCode, 0);
  assert.equal(sheep.inUse.size, 0);
});

test("cluster shutdown stops it", async (t) => {
  const { kelpie, server } = await world(t);
  assert.equal((await kelpie("cluster shutdown")).exitCode, 0);
  assert.ok(server.cluster.isShutDown);
});

test("attributes are kept beside a disk, exclusively if asked, and can be removed", async (t) => {
  const { kelpie } = await world(t);
  await kelpie("vdi create d 1M");
  assert.equal((await kelpie("vdi setattr d key value")).exitCode, 0);
  assert.equal((await kelpie("vdi getattr d key")).stdout, "value");
  assert.equal((await kelpie("vdi setattr d key -x other")).exitCode, 3);
  assert.equal((await kelpie("vdi setattr d key", "from ", "input")).exitCode, 0);
  await kelpie("vdi snapshot d -s one");
  assert.equal((await kelpie("vdi getattr d key")).stdout, "from input");
  assert.equal((await kelpie("vdi getattr d other")).exitCode, 5);
  assert.equal((await kelpie("vdi getattr nothing key")).exitCode, 5);
  assert.equal((await kelpie("vdi setattr d key -d")).exitCode, 0);
  assert.equal((await kelpie("vdi getattr d key")).exitCode, 5);
  for (const key of ["k".repeat(256), ""]) {
    assert.equal((await kelpie(`vdi setattr d ${key} value`)).exitCode, 64);
  }
  const tooLong = await kelpie("vdi setattr d key", "x".repeat(65_537));
  assert.equal(tooLong.exitCode, 64);
});

test("a server of Kelpie's answers for its store", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-cluster-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const settings = { store: new FakeStore(), directory, openLocal };
  const interrupt = new AbortController();
  const shown = Promise.withResolvers<string>();
  const serving = runCli(
    ["serve", "--json", "--http", "off", "--nbd", "off", "--sheepdog", `unix:${directory}/sock`],
    { ...settings, signal: interrupt.signal, onStdout: shown.resolve },
  );
  serving.then(({ stderr }) => shown.reject(new Error(stderr)), shown.reject);
  t.after(async () => {
    interrupt.abort(new Error("interrupted"));
    await serving;
  });
  await shown.promise;
  const kelpie = (line: string) => runCli(line.split(" "), settings);
  assert.equal((await kelpie("vdi create d 1G")).exitCode, 0);
  assert.equal((await kelpie("vdi setattr d key value")).stderr, "");
  assert.equal((await kelpie("vdi getattr d key")).stdout, "value");
  const info = await kelpie("cluster info");
  assert.equal(info.stderr, "");
  assert.match(info.stdout, /^Cluster status: running/);
  const nodes = JSON.parse((await kelpie("node list --json")).stdout) as unknown[];
  assert.equal(nodes.length, 1);
  assert.match((await kelpie("node info")).stdout, /Total virtual image size 1\.0 GiB/);
  assert.equal((await kelpie("cluster shutdown")).exitCode, 1);
});

test("what asks a cluster says so where there is none", async (t) => {
  await world(t);
  const { exitCode, stderr } = await runCli(["node", "list"], { store: new FakeStore() });
  assert.equal(exitCode, 1);
  assert.match(stderr, /--store sheepdog:\/\//);
});
