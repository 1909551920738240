import assert from "node:assert/strict";
import { test } from "node:test";
import { runHere, Scratch, ServerProcess } from "../support/server-process.ts";

const commands = [
  ["vdi", "read"],
  ["vdi", "write"],
  ["vdi", "export"],
  ["vdi", "tree"],
  ["vdi", "map"],
  ["vdi", "check"],
  ["vdi", "purge"],
];

for (const place of ["with a server", "without a server"] as const) {
  test(`every command says in the same words that a disk is not there, ${place}`, async () => {
    await using scratch = await Scratch.create();
    const store = scratch.file("store");
    await using server = place === "with a server" ? await ServerProcess.start(store) : undefined;
    const cli = (...argv: string[]) => server?.cli(...argv) ?? runHere(store, ...argv);
    await cli("vdi", "create", "disk", "1M");
    const expected = await cli("vdi", "info", "nosuch");
    assert.match(expected.stderr, /^kelpie: there is no disk "nosuch"\n.*kelpie vdi list/);
    for (const command of commands) {
      const target = command.includes("export") ? ["nosuch", scratch.file("out")] : ["nosuch"];
      const result = await cli(...command, ...target);
      assert.equal(result.stderr, expected.stderr, command.join(" "));
      assert.deepEqual([result.exitCode, result.stdout], [5, ""]);
    }
    const snapshot = await cli("vdi", "read", "disk@nosuch");
    assert.equal(snapshot.stderr, (await cli("vdi", "info", "disk@nosuch")).stderr);
    assert.match(snapshot.stderr, /disk "disk" has no snapshot "nosuch"/);
    await cli("vdi", "delete", "disk");
    assert.equal((await cli("vdi", "purge", "disk")).stdout, "purged 1 discarded disk\n");
  });
}

test("a command that makes a store says where, once", async () => {
  await using scratch = await Scratch.create();
  const store = scratch.file("store");
  const first = await runHere(store, "vdi", "create", "a", "1M");
  assert.equal(first.stderr, `kelpie: made a new store in ${store}\n`);
  assert.equal((await runHere(store, "vdi", "create", "b", "1M")).stderr, "");
});
