import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesOf, type CliResult, runCli } from "../../test/support/cli-run.ts";
import { FakeQemu } from "../../test/support/fake-qemu.ts";
import { nbdSocket, VmWorld } from "../../test/support/vm-world.ts";
import type { Processes } from "../host/processes.ts";
import type { Terminal } from "./terminal.ts";

const exports = { list: async () => [], open: () => assert.fail("no disk is opened") };

function cliOf(world: VmWorld, processes?: Processes) {
  return (line: string, stdin?: string): Promise<CliResult> =>
    runCli(line.split(" "), {
      store: { control: world.control, exports, close: async () => {} },
      ...(stdin === undefined ? {} : { stdin: bytesOf(stdin) }),
      ...(processes === undefined ? {} : { host: { processes } }),
    });
}

/** Starts a fake QEMU from the arguments of a real one. */
function fakeProgram(world: VmWorld, started: string[][]): Processes {
  return {
    async run(program, args) {
      assert.equal(program, "qemu-system-x86_64");
      started.push([...args]);
      if (args.includes("kvm")) return { exitCode: 1, stdout: "", stderr: "no kvm here\n" };
      if (args.includes("-bad")) return { exitCode: 1, stdout: "", stderr: "-bad: what?\n" };
      const qemu = new FakeQemu();
      qemu.isRunning = false;
      qemu.state = "prelaunch";
      qemu.onFormat = world.qemu.onFormat;
      for (const [at, option] of args.entries()) {
        if (option !== "-blockdev") continue;
        const node = JSON.parse(args[at + 1] ?? "") as { export: string; "node-name": string };
        world.connectDisk(node.export);
        const file = `nbd+unix:///${node.export}?socket=${nbdSocket.path}`;
        qemu.nodes.set(node["node-name"], { driver: "nbd", file, isDrive: true });
      }
      const path = /^unix:(.*),server/.exec(args[args.indexOf("-qmp") + 1] ?? "")?.[1] ?? "";
      await qemu.listen(world.net, { kind: "unix", path });
      return { exitCode: 0, stdout: "", stderr: "" };
    },
  };
}

test("attach, savevm, snapshots, loadvm, delvm", async () => {
  const world = await VmWorld.open();
  const cli = cliOf(world);
  const attached = await cli("vm attach vm1 --qmp unix:/run/vm1.qmp");
  assert.equal(attached.stdout, "vm1: attached, with 2 disks: root, data\n", attached.stderr);
  const saved = await cli("vm savevm vm1 a");
  assert.match(
    saved.stdout,
    /^vm1: saved snapshot 1 a, 0\.00 s, the guest stood still for 0\.00 s/,
  );
  await cli("vm savevm vm1 b");
  const again = await cli("vm savevm vm1 a");
  assert.equal(again.exitCode, 3);
  assert.match(again.stderr, /has a snapshot "a" already\nUse --replace/);
  const loaded = await cli("vm loadvm vm1 1");
  assert.match(loaded.stdout, /^vm1: back at snapshot 1 a, /);
  const table = (await cli("vm snapshots vm1")).stdout;
  assert.match(table, /^ID {8}TAG {14} VM SIZE {16}DATE {5}VM CLOCK\n1 {9}a {16} /);
  const tree = (await cli("vm snapshots vm1 --tree")).stdout;
  assert.match(tree, /a <-- b\n +\^\n +\|\nvm1 \(you are here\)\n$/);
  assert.match((await cli("vm list")).stdout, /^vm1 {3}running +2 {2}a +root,data +unix:\/run/m);
  assert.match((await cli("vdi list root")).stdout, /Tag +VM\n(.* [ab] {4}vm1\n){2}.* vm1\n$/);
  assert.match((await cli("vm delvm vm1 b")).stdout, /^vm1: deleted snapshot 2 b$/m);
  const deleted = await cli("vdi delete root -s a");
  assert.match(deleted.stderr, /kelpie vm delvm vm1 a deletes all of it/);
  assert.match((await cli("vm stop vm1 --timeout x")).stderr, /number of seconds/);
  await world.close();
});

test("the monitor takes lines from its input, and stops at the first that fails", async () => {
  const world = await VmWorld.attached();
  const cli = cliOf(world);
  const { stdout } = await cli("vm monitor vm1", "savevm a\n\ninfo status\ninfo snapshots");
  assert.match(stdout, /^saved snapshot 1 "a", .*\nyou said info status\nID .*\n1 +a .*\n$/);
  const failed = await cli("vm monitor vm1", "loadvm x\nsavevm b\n");
  assert.equal(failed.exitCode, 5);
  assert.match(failed.stderr, /VM "vm1" has no snapshot "x"/);
  assert.equal((await world.control.call("vm.snapshots", { name: "vm1" })).length, 1);
  assert.equal((await cli("vm monitor vm9", "")).exitCode, 5);
  await world.close();
});

test("run tries KVM and does without it; what fails leaves nothing behind", async () => {
  const world = await VmWorld.open();
  const started: string[][] = [];
  const cli = cliOf(world, fakeProgram(world, started));
  const bad = await cli("vm run vm7 --disk root -- -bad");
  assert.equal(bad.exitCode, 2);
  assert.match(bad.stderr, /QEMU of VM "vm7" did not start: -bad: what\?/);
  assert.equal((await cli("vm list")).stdout.trim().split("\n").length, 1, "only the header");
  assert.ok(!world.vdis.registry.working.has("vm7.memory"));
  started.length = 0;
  const run = await cli("vm run vm7 --memory 256M --disk root,data -- -vnc :1 -nic none");
  assert.match(run.stdout, /^vm7: running, with 2 disks: root, data\n/, run.stderr);
  const [, args = []] = started;
  const line = args.join(" ");
  assert.match(line, /-m 256M -accel tcg -cpu max -qmp unix:\/store\/vm\/vm7\/qmp.sock,server=on/);
  assert.match(line, /"export":"root","reconnect-delay":600,.*bootindex=1 .*"export":"data"/);
  assert.match(line, /-S -daemonize .* -vnc :1 -nic none$/);
  assert.ok(!line.includes("-display"));
  const again = await cli("vm run vm7");
  assert.match(again.stderr, /VM "vm7" is not off: it is running/);
  const other = await cli("vm run vm8 --disk root");
  assert.match(other.stderr, /disk "root" is one of VM "vm7"/);
  const [before] = await world.control.call("vm.list", {});
  world.net.stopListening({ kind: "unix", path: "/store/vm/vm7/qmp.sock" });
  assert.equal((await cli("vm run vm7 --memory 96M --disk root -- -bad")).exitCode, 2);
  const [after] = await world.control.call("vm.list", {});
  assert.deepEqual(
    [after?.state, after?.launch, after?.disks],
    ["off", before?.launch, before?.disks],
  );
  await world.close();
});

test("the console of a VM that has none says when there is one", async () => {
  const world = await VmWorld.attached();
  const none = await cliOf(world)("vm console vm1", "x");
  assert.match(none.stderr, /the serial line of VM "vm1": .*\nThere is one when `kelpie vm run`/);
  assert.equal((await cliOf(world)("vm console vm9", "x")).exitCode, 5);
  await world.close();
});

/** A person who types these, line by line or key by key. */
function person(typed: readonly string[], seen: { completions: string[][] }): Terminal {
  return {
    async *keys() {
      for (const keys of typed) yield Buffer.from(keys, "latin1");
    },
    release() {},
    async *lines({ complete }) {
      for (const line of typed) {
        if (line.endsWith("\t")) seen.completions.push(await complete(line.slice(0, -1)));
        else yield line;
      }
    },
  };
}

test("Ctrl-] leaves the console; what stands before it is typed, what stands behind it is not", async () => {
  const world = await VmWorld.attached();
  let said = "";
  await world.net.listen({ kind: "unix", path: "/store/vm/vm1/serial.sock" }, (connection) => {
    connection.start({
      data: (chunk) => {
        said += Buffer.from(chunk).toString();
        connection.release(chunk, chunk.length);
      },
      drain: () => {},
      close: () => {},
    });
    connection.write([Buffer.from("login: ")]);
  });
  const keyboard = person(["ro", "ot\x1dnot this"], { completions: [] });
  const store = { control: world.control, exports, close: async () => {} };
  const console = runCli(["vm", "console", "vm1"], { store, keyboard, host: { net: world.net } });
  const { exitCode, stdout } = await console;
  assert.deepEqual([exitCode, said, stdout], [0, "root", "login: "]);
  await world.close();
});

test("the monitor completes commands, what info tells, and tags; a failed line does not end it", async () => {
  const world = await VmWorld.attached();
  const help = "commit device -- x\nloadvm tag -- x\nsavevm [tag] -- x\nstop|s  -- x\n";
  world.qemu.say = (line) => {
    return line === "help" ? help : "info snapshots -- x\ninfo status -- x\n";
  };
  await world.control.call("vm.savevm", { name: "vm1", tag: "before" });
  const seen = { completions: [] as string[][] };
  const typed = ["sa\t", "s\t", "loadvm b\t", "info s\t", "loadvm nothing", "loadvm before", "q"];
  const keyboard = person([...typed, "savevm late"], seen);
  const store = { control: world.control, exports, close: async () => {} };
  const result = await runCli(["vm", "monitor", "vm1"], { store, keyboard });
  assert.deepEqual(seen.completions, [
    ["savevm"],
    ["s", "savevm", "stop"],
    ["loadvm before"],
    ["info snapshots", "info status"],
  ]);
  assert.match(result.stderr, /VM "vm1" has no snapshot "nothing"/);
  assert.match(result.stdout, /^loaded snapshot 1 "before", /);
  assert.equal(result.exitCode, 0);
  assert.equal((await world.control.call("vm.snapshots", { name: "vm1" })).length, 1);
  await world.close();
});

test("progress is drawn on the terminal, also when the result is JSON", async () => {
  const world = await VmWorld.attached();
  const store = { control: world.control, exports, close: async () => {} };
  const settings = { store, terminal: true };
  const saved = await runCli(["--json", "vm", "savevm", "vm1", "a"], settings);
  const { snapshot, tookMs, pausedMs } = JSON.parse(saved.stdout);
  assert.deepEqual([snapshot.tag, typeof tookMs, typeof pausedMs], ["a", "number", "number"]);
  assert.match(saved.stderr, /\rsavevm vm1: 0 % of 256 MiB/);
  assert.ok(saved.stderr.endsWith("\r\x1b[K"), "and removed");
  const loaded = await runCli(["vm", "loadvm", "vm1", "a"], settings);
  // So much as the state takes.
  assert.match(loaded.stderr, /\rloadvm vm1: 0 % of 1005 B/);
  const quiet = await runCli(["--json", "vm", "savevm", "vm1", "b"], { store });
  assert.equal(quiet.stderr, "");
  await world.close();
});

test("attach takes the agent's socket, and a snapshot with --quiesce uses it", async () => {
  const world = await VmWorld.open();
  const cli = cliOf(world);
  await cli("vm attach vm1 --qmp unix:/run/vm1.qmp");
  const missing = await cli("vdi snapshot root data -s s --quiesce");
  assert.equal(missing.exitCode, 1);
  assert.match(
    missing.stderr,
    /has its guest agent is not known\nkelpie vm attach vm1 --agent ADDR/,
  );
  await cli("vm attach vm1 --agent unix:/run/vm1.agent");
  const taken = await cli("vdi snapshot root data -s s --quiesce");
  assert.equal(taken.stdout, "root: snapshot #1 s\ndata: snapshot #1 s\n", taken.stderr);
  assert.ok(world.agent.log.includes("guest-fsfreeze-freeze"));
  assert.match((await cli("vm attach vm1 --agent off")).stderr, /--agent off: that is nowhere/);
  await world.close();
});
