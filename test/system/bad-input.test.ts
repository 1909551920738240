import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import type { VdiEntry } from "../../src/control/calls.ts";
import { decodeIdentity, encodeIdentity, type Identity } from "../../src/store/formats/identity.ts";
import { runHere, runKelpie, Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, tryTool } from "../support/tools.ts";

let scratch: Scratch;
let server: ServerProcess;
before(async () => {
  scratch = await Scratch.create();
  server = await ServerProcess.start(scratch.file("store"));
  await server.ok("vdi", "create", "disk", "1M");
  await server.ok("vdi", "snapshot", "disk", "-s", "tag");
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await scratch[Symbol.asyncDispose]();
});

interface Refusal {
  exitCode: number;
  /** What the message must say. */
  says: RegExp;
}

/** A command fails with a message and nothing in the store has changed. */
async function assertRefused(argv: readonly string[], { exitCode, says }: Refusal): Promise<void> {
  const before = await server.json("vdi", "list");
  const result = await server.cli(...argv);
  assert.equal(result.exitCode, exitCode, `kelpie ${argv.join(" ")}: ${result.stderr}`);
  assert.match(result.stderr, says);
  assert.doesNotMatch(result.stderr, /internal error|\n +at /);
  assert.equal(result.stdout, "");
  assert.deepEqual(await server.json("vdi", "list"), before);
}

const [usage, exists, missing] = [64, 3, 5];
const longest = "n".repeat(255);

const badNames: [string, string, RegExp][] = [
  ["empty", "", /empty/],
  ["of 256 bytes", `${longest}n`, /255 bytes.*256/],
  ["of 255 characters but more bytes", "ü".repeat(255), /255 bytes.*510/],
  ["with a NUL", "a\0b", /NUL|control/],
  ["with a newline", "a\nb", /control/],
  ["with an escape sequence", "a\x1b[2Jb", /control/],
];

for (const [what, name, says] of badNames) {
  test(`a name ${what} is refused wherever a name is made`, async () => {
    const refusal = { exitCode: usage, says };
    await assertRefused(["vdi", "create", name, "1M"], refusal);
    await assertRefused(["vdi", "clone", "disk", name, "-s", "tag"], refusal);
    await assertRefused(["vdi", "snapshot", "disk", "-s", name], refusal);
    await server.control.call("vdi.list", {}).then((list) => assert.ok(list.length > 0));
  });
}

test("a name may have 255 bytes, spaces, dashes and letters of any script", async () => {
  for (const name of [longest, "ü".repeat(127), "日本 – disk", "a@b", "--help me", "a/../b", "…"]) {
    await server.ok("vdi", "create", "--", name, "1M");
    await server.ok("vdi", "snapshot", "-s", name, "--", name);
    const client = await server.connect(name);
    await client.write([Buffer.alloc(512, 1)], 0);
    await client.close();
    const list = JSON.parse(await server.ok("--json", "vdi", "list", "--", name)) as VdiEntry[];
    assert.deepEqual(
      list.map((entry) => entry.tag),
      [name, ""],
    );
    await server.ok("vdi", "rollback", "-s", name, "--", name);
    await server.ok("vdi", "delete", "-s", name, "--", name);
    await server.ok("vdi", "delete", "--", name);
  }
});

test("a name or tag that is taken is refused, and stays what it is", async () => {
  const taken = { exitCode: exists, says: /disk "disk" already/ };
  await assertRefused(["vdi", "create", "disk", "2M"], taken);
  await assertRefused(["vdi", "clone", "disk", "disk", "-s", "tag"], taken);
  await assertRefused(["vdi", "snapshot", "disk", "-s", "tag"], {
    exitCode: exists,
    says: /"disk".*snapshot "tag" already/,
  });
});

const badSizes: [string, string, RegExp][] = [
  ["negative", "-1G", /negative/],
  ["zero", "0", /0 bytes/],
  ["not a multiple of 512", "1000", /multiple of 512.*1000/],
  ["a byte over the maximum", String(16 * 2 ** 40 + 512), /16 TiB/],
  ["beyond any number", "99999999999999E", /too large/],
  ["no number", "large", /not a size/],
  ["empty", "", /empty/],
  ["in exponents", "1e9", /not a size/],
];

for (const [what, size, says] of badSizes) {
  test(`a size that is ${what} is refused at create and resize`, async () => {
    await assertRefused(["vdi", "create", "new", "--", size], { exitCode: usage, says });
    await assertRefused(["vdi", "resize", "disk", "--", size], { exitCode: usage, says });
  });
}

test("sizes that come past the command line are checked as well", async () => {
  for (const sizeBytes of [-512, 0, 513, 16 * 2 ** 40 + 512, 2 ** 60, Number.NaN, 512.5]) {
    const making = server.control.call("vdi.create", { name: "new", sizeBytes });
    await assert.rejects(making, { code: "invalid" });
  }
  for (const name of ["", "a\0b", `${longest}n`]) {
    const making = server.control.call("vdi.create", { name, sizeBytes: 2 ** 20 });
    await assert.rejects(making, { code: "invalid" });
  }
});

test("the largest disk can be had, and its last byte written", async () => {
  await server.ok("vdi", "create", "largest", "16T");
  const client = await server.connect("largest");
  assert.equal(client.sizeBytes, 16 * 2 ** 40);
  await client.write([Buffer.alloc(512, 7)], client.sizeBytes - 512);
  const back = Buffer.alloc(1024);
  await client.read(back, client.sizeBytes - 1024);
  assert.ok(back.subarray(0, 512).every((byte) => byte === 0));
  assert.ok(back.subarray(512).every((byte) => byte === 7));
  await client.close();
  await server.ok("vdi", "snapshot", "largest", "-s", "tag");
  await server.ok("vdi", "delete", "largest");
});

test("what is not there is named, with exit code 5", async () => {
  const noDisk = { exitCode: missing, says: /"?nobody"?/ };
  const commands = ["info", "delete", "rollback -s tag", "snapshot", "read", "map", "check"];
  for (const command of [...commands, "diff -F tag", "resize --", "undelete", "flatten"]) {
    const [verb = "", ...options] = command.split(" ");
    const size = verb === "resize" ? ["1M"] : [];
    await assertRefused(["vdi", verb, ...options, "nobody", ...size], noDisk);
  }
  const noTag = { exitCode: missing, says: /"?disk"?.*"?nowhen"?/ };
  for (const verb of ["rollback", "delete", "read", "map", "check"]) {
    await assertRefused(["vdi", verb, "disk", "-s", "nowhen"], noTag);
  }
  await assertRefused(["vdi", "clone", "disk", "new", "-s", "nowhen"], noTag);
  await assertRefused(["vdi", "diff", "disk", "-F", "nowhen"], noTag);
  await assertRefused(["vdi", "export", "disk@nowhen", scratch.file("none.raw")], noTag);
  assert.deepEqual(await readdir(scratch.path), ["store"]);
});

test("a number is a snap id, and never a tag", async () => {
  await server.ok("vdi", "create", "counted", "1M");
  for (const tag of ["3", "007", "#3"]) {
    await assertRefused(["vdi", "snapshot", "counted", "-s", tag], {
      exitCode: usage,
      says: /number/,
    });
    const taking = server.control.call("vdi.snapshot", { names: ["counted"], tag });
    await assert.rejects(taking, { code: "invalid" });
  }
  for (const tag of ["3rd", "v3", "0x3", "3.0"]) {
    await server.ok("vdi", "snapshot", "counted", "-s", tag);
  }
  // "3rd" is the first snapshot and "0x3" the third.
  const info = await server.control.call("vdi.info", { name: "counted", snapshot: "3" });
  assert.equal(info.entry.tag, "0x3");
  await server.ok("vdi", "delete", "counted", "-s", "3");
  const left = (await server.json("vdi", "list", "counted")) as VdiEntry[];
  assert.deepEqual(
    left.map(({ tag }) => tag),
    ["3rd", "v3", "3.0", ""],
  );
  const gone = { exitCode: missing, says: /snapshot 3/ };
  await assertRefused(["vdi", "rollback", "counted", "-s", "3"], gone);
  await assertRefused(["vdi", "rollback", "counted", "-s", "0"], {
    exitCode: usage,
    says: /begin at 1/,
  });
});

test("an export that is not there is refused to NBD clients in words", {
  skip: requireTool("nbdinfo", "libnbd-bin"),
}, async () => {
  for (const name of ["nobody", "disk@nowhen", "disk@", "@tag", "disk@99", ""]) {
    const { status, stderr } = await tryTool("nbdinfo", [server.uri(name)]);
    assert.notEqual(status, 0, `"${name}"`);
    assert.match(stderr, /No such file|Invalid argument/, `"${name}"`);
  }
  assert.equal(server.isRunning, true);
});

test("a second server on the same store is refused, naming the first", async () => {
  const second = await runKelpie(server.store, "serve", "--nbd", "off");
  assert.equal(second.status, 1);
  assert.match(second.stderr, new RegExp(`pid ${server.pid}`));
  assert.equal(server.isRunning, true);
  await server.ok("vdi", "info", "disk");
});

test("a store of a newer version is refused, and nothing in it is touched", async () => {
  const store = scratch.file("newer");
  assert.equal((await runHere(store, "vdi", "create", "disk", "1M")).exitCode, 0);
  const path = `${store}/store`;
  const identity = decodeIdentity(await readFile(path), "store");
  const changes: [Partial<Identity>, RegExp][] = [
    [{ format: 2 }, /newer Kelpie.*format 2/],
    [{ incompatible: ["time-travel"] }, /newer Kelpie.*time-travel/],
    [{ readCompatible: ["slow-light"] }, /newer Kelpie.*slow-light/],
  ];
  for (const [change, says] of changes) {
    await writeFile(path, Buffer.concat(encodeIdentity({ ...identity, ...change })));
    const before = await contentOf(store);
    for (const argv of [
      ["vdi", "list"],
      ["serve", "--nbd", "off"],
    ]) {
      const refused = await runHere(store, ...argv);
      assert.equal(refused.exitCode, 1, refused.stderr);
      assert.match(refused.stderr, says);
    }
    assert.deepEqual(await contentOf(store), before);
  }
  // What is only compatible may be there.
  const harmless = { ...identity, compatible: ["nicer-names"] };
  await writeFile(path, Buffer.concat(encodeIdentity(harmless)));
  const { exitCode, stdout } = await runHere(store, "vdi", "list", "--json");
  assert.equal(exitCode, 0);
  assert.deepEqual(
    (JSON.parse(stdout) as VdiEntry[]).map(({ name }) => name),
    ["disk"],
  );
});

test("a directory that is no store is refused, and stays as it is", async () => {
  const directory = scratch.file("photos");
  await mkdir(directory);
  await writeFile(`${directory}/cat.jpg`, "meow");
  const argvs = [
    ["serve", "--nbd", "off"],
    ["vdi", "create", "disk", "1M"],
    ["vdi", "list"],
  ];
  for (const argv of argvs) {
    const refused = await runHere(directory, ...argv);
    assert.equal(refused.exitCode, 64, refused.stderr);
    assert.match(refused.stderr, /photos is not a Kelpie store/);
    assert.deepEqual(await contentOf(directory), { "cat.jpg": "meow" });
  }
  const file = `${directory}/cat.jpg`;
  const notADirectory = await runKelpie(file, "serve", "--nbd", "off");
  assert.equal(notADirectory.status, 64);
  assert.match(notADirectory.stderr, /cat\.jpg: it is a file, not a directory/);
  assert.doesNotMatch(notADirectory.stderr, /internal error/);
});

test("queries do not make a store", async () => {
  const nowhere = scratch.file("nowhere");
  const refused = await runHere(nowhere, "vdi", "list");
  assert.equal(refused.exitCode, missing);
  assert.match(refused.stderr, /no store in .*nowhere/);
  assert.equal((await readdir(scratch.path)).includes("nowhere"), false);
});

/** Files below a directory and what is in them. */
async function contentOf(directory: string): Promise<Record<string, string>> {
  const content: Record<string, string> = {};
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = `${entry.parentPath}/${entry.name}`;
    content[path.slice(directory.length + 1)] = await readFile(path, "latin1");
  }
  return content;
}
