import assert from "node:assert/strict";
import { test } from "node:test";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";
import { linuxArguments, requireAgent, type TestVm } from "./guests.ts";
import { mustBeClean, requireLinux, runLinux } from "./linux-guest.ts";

const skip = requireLinux() || requireAgent() || requireTool("dumpe2fs", "e2fsprogs");

/** Whether the file system in a snapshot needs its journal, and what is in it without. */
async function looked(
  server: ServerProcess,
  scratch: Scratch,
  exportName: string,
): Promise<{ needsRecovery: boolean; file: string }> {
  const image = scratch.file("image.raw");
  await server.ok("vdi", "export", exportName, image);
  const header = await runTool("dumpe2fs", ["-h", image]);
  const file = await runTool("debugfs", ["-R", "cat /file", image]);
  await runTool("rm", [image]);
  return { needsRecovery: /features:.*needs_recovery/.test(header), file: file.trim() };
}

async function writesGoOn(vm: TestVm): Promise<void> {
  await vm.shell("echo more >>/a/other && sync");
}

test("with --quiesce what the guest has not written out is in the snapshot, which needs no repair", {
  skip,
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await using vm = await runLinux(server, scratch, "vm1", linuxArguments("initrd-agent"));
  const tag = ["-s", "quiet"];

  await vm.shell("echo words >/a/file");
  await server.ok("vdi", "snapshot", "root", "data", "-s", "plain");
  assert.deepEqual(await looked(server, scratch, "root@plain"), { needsRecovery: true, file: "" });

  await server.ok("vdi", "snapshot", "root", "data", ...tag, "--quiesce");
  const expected = { needsRecovery: false, file: "words" };
  assert.deepEqual(await looked(server, scratch, "root@quiet"), expected);
  assert.equal((await looked(server, scratch, "data@quiet")).needsRecovery, false);
  await writesGoOn(vm);

  // Refused, because there is one of that tag: the guest goes on all the same.
  const refused = await server.cli("vdi", "snapshot", "root", "data", ...tag, "--quiesce");
  assert.equal(refused.exitCode, 3);
  await writesGoOn(vm);

  await vm.shell("kill $(cat /tmp/qemu-ga.pid)");
  const missing = await server.cli("vdi", "snapshot", "root", "data", "--quiesce");
  assert.equal(missing.exitCode, 1);
  assert.match(missing.stderr, /the agent in the guest of VM "vm1" does not answer/);
  await mustBeClean(vm);
});
