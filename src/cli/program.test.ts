import assert from "node:assert/strict";
import { resolve } from "node:path";
import { test } from "node:test";
import { bytesOf, runCli } from "../../test/support/cli-run.ts";
import { FakeStore } from "../../test/support/fake-control.ts";
import { KelpieError } from "../base/errors.ts";
import { treesOf } from "../control/tree.ts";
import { createNodeTimers } from "../host/node/timers.ts";
import { BrokenPipe } from "./context.ts";
import { exitCodeOf } from "./exit-codes.ts";

process.env.TZ = "UTC";

/** Runs command lines on one store, as typed at a prompt; shows what each printed and a failure's code. */
async function session(store: FakeStore, ...lines: string[]): Promise<string> {
  let shown = "";
  for (const line of lines) {
    const { exitCode, stdout, stderr } = await runCli(line.split(" "), { store });
    const failed = exitCode === 0 ? "" : `${stderr}exit ${exitCode}\n`;
    shown += `$ kelpie ${line}\n${stdout}${failed}`;
  }
  return shown;
}

/** A disk with 64 KiB, a snapshot, 128 KiB more, another snapshot, and a rollback to the first. */
async function rolledBack(): Promise<FakeStore> {
  const store = new FakeStore();
  const chunk = Buffer.alloc(65536, 1);
  await session(store, "vdi create disk1 10M");
  store.device("disk1").write([chunk], 0);
  await session(store, "vdi snapshot disk1 -s base");
  store.device("disk1").write([chunk, chunk], 1048576);
  await session(store, "vdi snapshot disk1", "vdi rollback disk1 -s base -f");
  return store;
}

test("changes say in a line what they did", async () => {
  assert.equal(
    await session(
      new FakeStore(),
      "vdi create root 10G",
      "vdi create data 1.5T",
      "vdi snapshot root data -s monday",
      "vdi snapshot root",
      "vdi clone -s monday root vm7",
      "vdi rollback root data -s monday",
      "vdi rollback root -s 2 -f",
      "vdi undelete root",
      "vdi undelete root --id 3 --as before",
      "vdi delete root -s 2",
      "vdi delete root -f",
      "vdi resize data 2T",
      "vdi resize data 1T --shrink",
      "vdi flatten vm7",
      "vdi purge data",
      "vdi purge",
    ),
    `$ kelpie vdi create root 10G
root: created, 10 GiB
$ kelpie vdi create data 1.5T
data: created, 1.5 TiB
$ kelpie vdi snapshot root data -s monday
root: snapshot #1 monday
data: snapshot #1 monday
$ kelpie vdi snapshot root
root: snapshot #2
$ kelpie vdi clone -s monday root vm7
vm7: cloned from root@monday
$ kelpie vdi rollback root data -s monday
root: back at monday
data: back at monday
$ kelpie vdi rollback root -s 2 -f
root: back at 2
$ kelpie vdi undelete root
root: brought back
$ kelpie vdi undelete root --id 3 --as before
kelpie: root: nothing is set aside
exit 5
$ kelpie vdi delete root -s 2
root@#2: deleted
$ kelpie vdi delete root -f
root: deleted
$ kelpie vdi resize data 2T
data: now 2T
$ kelpie vdi resize data 1T --shrink
data: now 1T
$ kelpie vdi flatten vm7
vm7: stands on nothing, 0 B used
$ kelpie vdi purge data
purged 1 discarded disk
$ kelpie vdi purge
purged 3 discarded disks
`,
  );
});

test("list has dog's columns and marks snapshots and clones; tree draws what happened", async () => {
  const store = await rolledBack();
  assert.equal(
    await session(store, "vdi clone -s 2 disk1 c1", "vdi list", "vdi list c1", "vdi tree disk1"),
    `$ kelpie vdi clone -s 2 disk1 c1
c1: cloned from disk1@#2
$ kelpie vdi list
  Name   Id    Size     Used   Shared  Creation time     VDI id  Tag
c c1      0  10 MiB      0 B  192 KiB  2026-03-01 12:06       5
s disk1   1  10 MiB   64 KiB      0 B  2026-03-01 12:01       1  base
s disk1   2  10 MiB  128 KiB   64 KiB  2026-03-01 12:02       2
  disk1   0  10 MiB      0 B   64 KiB  2026-03-01 12:05       4
$ kelpie vdi list c1
  Name  Id    Size  Used   Shared  Creation time     VDI id  Tag
c c1     0  10 MiB   0 B  192 KiB  2026-03-01 12:06       5
$ kelpie vdi tree disk1
            base <-- #2 <-- c1 (you are here)
              ^
              |
    disk1 (you are here)

  Name   Id    Size     Used   Shared  Creation time     VDI id  Tag
s disk1   1  10 MiB   64 KiB      0 B  2026-03-01 12:01       1  base
s disk1   2  10 MiB  128 KiB   64 KiB  2026-03-01 12:02       2
  disk1   0  10 MiB      0 B   64 KiB  2026-03-01 12:05       4
c c1      0  10 MiB      0 B  192 KiB  2026-03-01 12:06       5
`,
  );
});

test("a thousand snapshots are listed and drawn", async () => {
  const store = new FakeStore();
  await session(store, "vdi create d 512");
  for (let count = 0; count < 1000; count++) {
    await store.control.call("vdi.snapshot", { names: ["d"] });
  }
  const { stdout } = await runCli(["vdi", "tree", "d"], { store });
  const [drawing, , header, ...rows] = stdout.trimEnd().split("\n");
  assert.equal(drawing, "    #1 <-- … 998 more … <-- #1000 <-- d (you are here)");
  assert.match(header ?? "", /^ {2}Name/);
  assert.equal(rows.length, 1001);
  const json = await runCli(["vdi", "tree", "d", "--json"], { store });
  let depth = 0;
  for (let [node] = JSON.parse(json.stdout); node !== undefined; [node] = node.children) depth++;
  assert.equal(depth, 1001);
});

test("queries about one disk show points, ranges and what was set aside", async () => {
  const store = await rolledBack();
  assert.equal(
    await session(
      store,
      "vdi info disk1",
      "vdi info disk1 -s base",
      "vdi list --discarded",
      "vdi map disk1 -s 2",
      "vdi diff disk1 -F base -s 2",
      "vdi check disk1",
    ),
    `$ kelpie vdi info disk1
Name:      disk1
Kind:      working VDI
Size:      10 MiB (10M)
Mapped:    64 KiB
Used:      0 B, which only this point holds
Shared:    64 KiB
Created:   2026-03-01 12:05
VDI id:    4
Stands on: VDI id 1
Snapshots: 2
Discarded: 1 version
Open by:   0 clients
$ kelpie vdi info disk1 -s base
Name:        disk1
Kind:        snapshot
Snapshot id: 1
Tag:         base
Size:        10 MiB (10M)
Mapped:      64 KiB
Used:        64 KiB, which only this point holds
Shared:      0 B
Created:     2026-03-01 12:01
VDI id:      1
Stands on:   nothing
Snapshots:   2
Discarded:   1 version
Open by:     0 clients
$ kelpie vdi list --discarded
Name   Id  Why         Size  Used  Discarded         Purged after
disk1   3  rollback  10 MiB   0 B  2026-03-01 12:04  2026-03-01 13:04
$ kelpie vdi map disk1 -s 2
        Offset          Length  Kind     Depth
             0           65536  data         1
         65536          983040  hole         0
       1048576          131072  data         1
       1179648         9306112  hole         0
$ kelpie vdi diff disk1 -F base -s 2
        Offset          Length  Kind
       1048576          131072  changed
$ kelpie vdi check disk1
disk1: 64 KiB checked, no damage
`,
  );
});

test("the store's own commands", async () => {
  const store = await rolledBack();
  assert.equal(
    await session(store, "store info", "store check", "store inspect catalog/1", "store clean"),
    `$ kelpie store info
Store:           fake
Id:              0123456789abcdef
Format:          1
State:           open
Disks:           1
Points:          3
Segments:        1
Catalog records: 4
Live data:       320 KiB
Used:            640 KiB
Free:            10 GiB, of which 256 MiB in reserve
$ kelpie store check
store: 320 KiB checked, no damage
$ kelpie store inspect catalog/1
catalog/1: one
catalog/1: two
$ kelpie store clean
store: 320 KiB freed, 320 KiB used for 320 KiB of live data
`,
  );
});

test("damage is a failure and is named; a leak is not", async () => {
  const store = await rolledBack();
  store.findings = [{ severity: "leak", object: "logs/1", message: "nobody needs it" }];
  const leak = await runCli(["store", "check"], { store });
  assert.equal(leak.exitCode, 0);
  assert.match(leak.stdout, /leak: logs\/1: nobody needs it\nstore: .* checked, 1 finding\n/);
  store.findings = [{ severity: "damage", object: "disk1@base 0+4096", message: "checksum" }];
  for (const line of [
    ["store", "check"],
    ["vdi", "check", "disk1"],
    ["store", "check", "--json"],
  ]) {
    const damage = await runCli(line, { store });
    assert.equal(damage.exitCode, 1);
    assert.match(damage.stdout, /disk1@base 0\+4096/);
  }
});

test("--json prints what the call answered, before or after the command", async () => {
  const store = await rolledBack();
  const list = await runCli(["vdi", "list", "--json"], { store });
  assert.deepEqual(JSON.parse(list.stdout), await store.control.call("vdi.list", {}));
  assert.equal((await runCli(["--json", "vdi", "list"], { store })).stdout, list.stdout);
  const [snapshot] = JSON.parse(
    (await runCli(["--json", "vdi", "snapshot", "disk1"], { store })).stdout,
  );
  assert.equal(snapshot.snapId, 3);
  const diff = await runCli(["vdi", "diff", "disk1", "-F", "1", "-s", "2", "--json"], { store });
  const changed = { offset: 1048576, length: 131072, kind: "changed" };
  assert.deepEqual(JSON.parse(diff.stdout), [changed]);
  const none = await runCli(["vdi", "diff", "disk1", "-F", "1", "--json"], { store });
  assert.deepEqual(JSON.parse(none.stdout), []);
  await session(store, "vdi clone -s 1 disk1 c1", "vdi create other 1M");
  const tree = await runCli(["vdi", "tree", "--json"], { store });
  assert.deepEqual(JSON.parse(tree.stdout), treesOf(await store.control.call("vdi.list", {})));
  for (const line of [
    "vdi tree c1",
    "vdi info disk1",
    "store info",
    "store clean",
    "vdi map disk1",
  ]) {
    JSON.parse((await runCli([...line.split(" "), "--json"], { store })).stdout);
  }
});

test("exit codes are dog's, and no failure is 0", async () => {
  const store = await rolledBack();
  const examples: [string, number, RegExp][] = [
    ["vdi create disk1 1G", 3, /kelpie: there is a disk disk1 already/],
    ["vdi tree nothing", 5, /there is no disk nothing/],
    ["vdi info nothing", 5, /there is no disk nothing/],
    ["vdi rollback disk1 -s nothing", 5, /no snapshot nothing\nkelpie vdi list disk1/],
    ["vdi create x", 64, /argument 'size'\nkelpie vdi create --help says more\n/],
    ["--store s vdi list --nonsense", 64, /\nkelpie vdi list --help says more\n/],
    [
      "vdi create x 10",
      64,
      /multiple of 512 bytes, and 10 is not\nwrite 10G for gigabytes; .* 512\n/,
    ],
    ["vdi create x 100000", 64, /multiple of 512 bytes, .*\nthe next is 100352\n/],
    ["vdi create x 1.3M", 64, /\n1362944 is the multiple of 512 just below/],
    ["vdi purge nothing", 5, /there is no disk nothing/],
    ["vdi map disk1 -s nothing --json", 5, /no snapshot nothing/],
    ["vdi diff disk1 -F nothing --json", 5, /no snapshot nothing/],
    ["vdi import /nonexistent/file x", 5, /kelpie: there is no file \/nonexistent\/file\n/],
    ["vdi export disk1 /nonexistent/x", 5, /kelpie: there is no directory \/nonexistent\n/],
    ["vdi resize disk1 -1G", 64, /-1G: it is negative\ngive the new size, and --shrink/],
    ["vdi delete disk1@base", 5, /no disk disk1@base\n.*disk1, use -s base/],
    ["vdi snapshot disk1@base", 5, /disk1, use -s base/],
    ["vdi rollback disk1@base -s base", 5, /disk1, use -s base/],
    ["vdi clone disk1@base x -s base", 5, /disk1, use -s base/],
    ["vdi diff disk1@base -F base", 5, /disk1, use -s base/],
    ["vdi resize disk1@base 20M", 5, /not on snapshots: use disk1\n/],
    ["list", 64, /unknown command "list"\ndid you mean kelpie vdi list\?/],
    ["check --repair", 64, /unknown command "check"\ndid you mean kelpie vdi check\?/],
    ["--json clean", 64, /unknown command "clean"\ndid you mean kelpie store clean\?/],
    ["vdo list", 64, /unknown command "vdo"\ndid you mean kelpie vdi list\?/],
    ["help nonsense", 64, /unknown command "nonsense"\nkelpie --help lists them/],
    ["--store /etc/passwd vdi list", 64, /\/etc\/passwd: it is a file, not a directory/],
    ["--store /etc/passwd serve", 64, /\/etc\/passwd: it is a file, not a directory/],
    ["vdi create x 1 2", 64, /too many arguments/],
    ["vdi create x 10X", 64, /"10X" is not a size\nwrite it like/],
    ["vdi create x -5G", 64, /kelpie: -5G: it is negative/],
    ["vdi create  1G", 64, /<name> is empty/],
    ["vdi snapshot disk1 ", 64, /<name> is empty/],
    ["vdi create x 1.1G", 64, /whole number/],
    ["vdi crate x 1G", 64, /unknown command 'crate'.*\(Did you mean create\?\)/s],
    ["vdi", 64, /a command is missing\nkelpie vdi --help lists them/],
    ["nonsense", 64, /kelpie: /],
    ["vdi list --nonsense", 64, /unknown option '--nonsense'/],
    ["vdi clone disk1 x", 64, /required option '-s, --snapshot <tag>'/],
    ["vdi snapshot disk1 -s 17", 64, /a number names a snapshot by its id/],
    ["vdi snapshot disk1 -s #17", 64, /a number names a snapshot by its id/],
    ["vdi delete disk1 -s 0", 64, /ids begin at 1/],
    ["vdi undelete disk1 --id x", 64, /id "x"/],
    ["vdi resize disk1 1M", 64, /--shrink/],
    ["--store rbd://pool/x vdi list", 1, /store rbd:\/\/pool\/x/],
    ["serve --nbd 0.0.0.0:10809", 64, /--insecure/],
    ["serve --nbd nonsense", 64, /"nonsense"/],
    ["serve --keep-discarded 1y", 64, /"1y"/],
  ];
  for (const [line, code, message] of examples) {
    const result = await runCli(line.split(" "), { store });
    assert.equal(result.exitCode, code, line);
    assert.match(result.stderr, message);
    assert.equal(result.stdout, "", line);
  }
  assert.deepEqual(
    (["no-space", "io", "corrupt", "closed", "busy", "read-only"] as const).map((code) =>
      exitCodeOf(new KelpieError(code, "")),
    ),
    [4, 2, 2, 2, 1, 1],
  );
});

test("help and the version go to standard output and are no failure", async () => {
  const store = new FakeStore();
  for (const argv of [
    [],
    ["--help"],
    ["vdi", "--help"],
    ["vdi", "import", "-h"],
    ["serve", "-h"],
    ["help"],
    ["help", "vdi"],
    ["help", "vdi", "create"],
    ["vdi", "help"],
    ["--store", "vdi", "help"],
  ]) {
    const { exitCode, stdout, stderr } = await runCli(argv, { store });
    assert.deepEqual([exitCode, stderr], [0, ""]);
    assert.match(stdout, /^Usage: kelpie/);
    assert.match(stdout, /--store <dir\|url>/);
    assert.ok(stdout.split("\n").every((line) => line.length <= 100));
  }
  assert.equal((await runCli(["--version"], { store })).stdout, "kelpie 0.0.0-test\n");
  assert.match((await runCli([], { store })).stdout, /Exit codes/);
});

test("help for a command is what its --help says", async () => {
  const store = new FakeStore();
  const shown = async (line: string) => (await runCli(line.split(" "), { store })).stdout;
  assert.equal(await shown("help"), await shown("--help"));
  assert.equal(await shown("help vdi create"), await shown("vdi create --help"));
  assert.equal(await shown("store help check"), await shown("store check --help"));
  assert.notEqual(await shown("help vdi"), await shown("help"));
});

test("a snapshot may be named NAME@TAG; a disk of that name comes first", async () => {
  const store = await rolledBack();
  for (const line of ["vdi info", "vdi map", "vdi check", "vdi map --json"]) {
    const [words, options] = [line.split(" ").slice(0, 2), line.split(" ").slice(2)];
    const asked = await runCli([...words, "disk1", "-s", "base", ...options], { store });
    const short = await runCli([...words, "disk1@base", ...options], { store });
    assert.equal(short.exitCode, 0, short.stderr);
    assert.equal(short.stdout, asked.stdout);
  }
  assert.equal((await runCli(["vdi", "info", "disk1@nothing"], { store })).exitCode, 5);
  await store.control.call("vdi.create", { name: "disk1@base", sizeBytes: 512 });
  const { stdout } = await runCli(["vdi", "info", "disk1@base"], { store });
  assert.match(stdout, /^Name: +disk1@base\nKind: +working VDI\n/);
});

test("a size with a + is how much larger a disk becomes, never how small", async () => {
  const store = new FakeStore();
  assert.equal(
    await session(
      store,
      "vdi create d 1M",
      "vdi resize d +1M",
      "vdi resize d +512 --shrink",
      "vdi resize nothing +1M",
    ),
    `$ kelpie vdi create d 1M
d: created, 1.0 MiB
$ kelpie vdi resize d +1M
d: now 2M
$ kelpie vdi resize d +512 --shrink
d: now 2097664
$ kelpie vdi resize nothing +1M
kelpie: there is no disk nothing
exit 5
`,
  );
});

test("an empty $KELPIE_STORE is none", async () => {
  const urls: string[] = [];
  const store = new FakeStore();
  const openLocal = async (url: string) => {
    urls.push(url);
    return store;
  };
  await runCli(["vdi", "list"], { store, openLocal, directory: "" });
  assert.deepEqual(urls, [resolve("kelpie-data")]);
});

test("a mistake of ours is not taken for the user's", async () => {
  const store = new FakeStore();
  const openLocal = () => Promise.reject(new TypeError("x is not a function"));
  const { exitCode, stderr } = await runCli(["vdi", "list"], { store, openLocal });
  assert.equal(exitCode, 2);
  assert.match(stderr, /kelpie: internal error: .*x is not a function/);
});

test("a reader that has enough is a quiet failure", async () => {
  const store = await rolledBack();
  const onStdout = () => {
    throw new BrokenPipe();
  };
  const { exitCode, stderr } = await runCli(["vdi", "list"], { store, onStdout });
  assert.deepEqual([exitCode, stderr], [1, ""]);
  assert.ok(store.closed);
});

test("an interrupted command says so and closes the store", async () => {
  const store = await rolledBack();
  const signal = AbortSignal.abort(new KelpieError("closed", "interrupted"));
  const { exitCode, stderr } = await runCli(["store", "check"], { store, signal });
  assert.deepEqual([exitCode, stderr], [130, "kelpie: interrupted\n"]);
  assert.ok(store.closed);
});

test("only commands that make disks make a store", async () => {
  const made: boolean[] = [];
  const store = new FakeStore();
  const openLocal = async (_url: string, { create }: { create: boolean }) => {
    made.push(create);
    return store;
  };
  const lines = ["vdi list", "vdi create d 1M", "vdi write d", "vdi import - e", "store check"];
  for (const line of lines) {
    await runCli(line.split(" "), { store, openLocal, stdin: bytesOf("x") });
  }
  assert.deepEqual(made, [false, true, false, true, false]);
});

test("a store that another process has open for a moment is waited for; for long, it is busy", async () => {
  const store = await rolledBack();
  let failures = 2;
  const openLocal = async () => {
    if (failures-- > 0) throw new KelpieError("busy", "pid 99 has the lock");
    return store;
  };
  assert.equal((await runCli(["vdi", "list"], { store, openLocal })).exitCode, 0);
  failures = Number.POSITIVE_INFINITY;
  let nowMs = 0;
  const clock = { nowMs: () => 0, monotonicMs: () => nowMs };
  const timers = {
    ...createNodeTimers(),
    sleep: async (delayMs: number) => {
      nowMs += delayMs;
    },
  };
  const settings = { store, openLocal, host: { clock, timers } };
  const { exitCode, stderr } = await runCli(["vdi", "list"], settings);
  assert.ok(nowMs >= 1000 && nowMs <= 10_000, `${nowMs}`);
  assert.equal(exitCode, 1);
  assert.match(stderr, /is in use: pid 99 has the lock/);
});
