import assert from "node:assert/strict";
import { cp, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { formatNbdUri } from "../../src/nbd/uri.ts";
import { certificateDirectory, TestAuthority } from "../support/certificates.ts";
import { runKelpie, Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool, type ToolResult, tryTool } from "../support/tools.ts";

const noQemuImg = requireTool("qemu-img", "qemu-utils");
const noQemuIo = requireTool("qemu-io", "qemu-utils");
const noNbdinfo = requireTool("nbdinfo", "libnbd-bin");
const noNbdcopy = requireTool("nbdcopy", "libnbd-bin");
const mebibyte = 2 ** 20;

let scratch: Scratch;
/** As kelpie tls init makes it. */
let good = "";
/** Only an authority, and not ours. */
let stranger = "";
/** Ours, and nothing of the client's own. */
let bare = "";
/** A client's certificate that was good until yesterday. */
let expired = "";
/** Our authority to trust, and a client's certificate of another one. */
let foreign = "";
let server: ServerProcess;

before(async () => {
  scratch = await Scratch.create();
  good = scratch.file("tls");
  const made = await runKelpie(scratch.file("store"), "tls", "init", good);
  assert.equal(made.status, 0, made.stderr);
  const own = {
    certificate: await readFile(join(good, "ca-cert.pem"), "utf8"),
    key: await readFile(join(good, "ca-key.pem"), "utf8"),
  };
  const authority = TestAuthority.of(own);
  const other = await TestAuthority.create("another authority");
  stranger = await certificateDirectory(scratch.file("stranger"), { authority: other });
  bare = await certificateDirectory(scratch.file("bare"), { authority });
  const late = await authority.expired("client");
  expired = await certificateDirectory(scratch.file("expired"), { authority, client: late });
  const client = await other.client();
  foreign = await certificateDirectory(scratch.file("foreign"), { authority, client });
  server = await start("store");
});

after(async () => {
  await server?.stop();
  await scratch?.[Symbol.asyncDispose]();
});

async function start(store: string, ...flags: string[]): Promise<ServerProcess> {
  const started = await ServerProcess.start(scratch.file(store), [
    ...["--tls-dir", good, "--tls-verify-peer", "--sheepdog", "off"],
    ...flags,
  ]);
  await started.ok("vdi", "create", "disk", "16M");
  return started;
}

type Kind = "tcp" | "unix";

function uri(certificates: string, kind: Kind = "tcp", of = server): string {
  return formatNbdUri({ address: of.address(kind), exportName: "disk", tls: { certificates } });
}

/** How QEMU's tools are told of a disk in TLS. */
function qemuOptions(certificates: string, kind: Kind = "tcp", of = server): string[] {
  const address = of.address(kind);
  const where =
    address.kind === "unix"
      ? `path=${address.path},tls-hostname=localhost`
      : `host=${address.host},port=${address.port}`;
  return [
    ...["--object", `tls-creds-x509,id=tls0,dir=${certificates},endpoint=client`],
    ...["--image-opts", `driver=nbd,${where},export=disk,tls-creds=tls0`],
  ];
}

function qemuIo(options: readonly string[], ...commands: string[]): Promise<ToolResult> {
  return tryTool("qemu-io", [...options, ...commands.flatMap((command) => ["-c", command])]);
}

for (const kind of ["tcp", "unix"] as const) {
  describe(`TLS over ${kind}`, () => {
    test("nbdinfo --json nbds: and qemu-img info with tls-creds show the disk", {
      skip: noNbdinfo || noQemuImg,
    }, async () => {
      const info = JSON.parse(await runTool("nbdinfo", ["--json", uri(good, kind)]));
      assert.equal(info.TLS, true);
      assert.equal(info.exports[0]["export-size"], 16 * mebibyte);
      const [object, credentials, ...image] = qemuOptions(good, kind);
      const shown = await runTool("qemu-img", [
        ...["info", "--output=json", object ?? "", credentials ?? ""],
        ...image,
      ]);
      assert.equal(JSON.parse(shown)["virtual-size"], 16 * mebibyte);
    });

    test("what qemu-io writes nbdcopy and Kelpie's own client read", {
      skip: noQemuIo || noNbdcopy,
    }, async () => {
      const written = await qemuIo(qemuOptions(good, kind), "write -z 0 16M", "write -P 7 1M 3M");
      assert.equal(written.status, 0, written.stderr);
      const read = await qemuIo(qemuOptions(good, kind), "read -P 7 1M 3M", "read -P 0 4M 1M");
      assert.equal(read.status, 0, read.stdout + read.stderr);
      const copied = scratch.file(`copy-${kind}`);
      await runTool("nbdcopy", [uri(good, kind), copied]);
      const expected = Buffer.alloc(16 * mebibyte);
      expected.fill(7, mebibyte, 4 * mebibyte);
      assert.ok((await readFile(copied)).equals(expected));
      // And back, over another part.
      expected.fill(9, 8 * mebibyte, 12 * mebibyte);
      await writeFile(copied, expected);
      await runTool("nbdcopy", [copied, uri(good, kind)]);
      const { stdout } = await runKelpie(server.store, "vdi", "read", "disk", "8M", "4");
      assert.equal(stdout, "\t\t\t\t");
    });

    test("who has no good certificate gets nothing", { skip: noNbdinfo || noQemuIo }, async () => {
      for (const directory of [bare, expired, foreign, stranger]) {
        const { status } = await tryTool("nbdinfo", [uri(directory, kind)]);
        assert.notEqual(status, 0, `nbdinfo with ${directory}`);
        const io = await qemuIo(qemuOptions(directory, kind), "read 0 512");
        assert.notEqual(io.status, 0, `qemu-io with ${directory}`);
      }
    });
  });
}

test("in the clear, over TCP, nothing is shown", { skip: noNbdinfo || noQemuImg }, async () => {
  assert.notEqual((await tryTool("nbdinfo", ["--list", server.uri("", "tcp")])).status, 0);
  const { status, stderr } = await tryTool("qemu-img", ["info", server.uri("disk", "tcp")]);
  assert.notEqual(status, 0);
  assert.match(stderr, /TLS/);
  // A Unix socket has an owner and a mode instead.
  await runTool("nbdinfo", [server.uri("disk", "unix")]);
});

test("a server's certificate that is over, or for another name, is refused by the tools", {
  skip: noNbdinfo || noQemuImg,
}, async () => {
  const authority = await TestAuthority.create();
  const trust = { authority, client: await authority.client() };
  for (const [name, certificate] of [
    ["late", await authority.expired("server")],
    ["elsewhere", await authority.server(["elsewhere.example"])],
  ] as const) {
    const directory = scratch.file(name);
    await certificateDirectory(directory, { ...trust, server: certificate });
    const flags = ["--tls-dir", directory, "--sheepdog", "off"];
    await using wrong = await ServerProcess.start(scratch.file(`store-${name}`), flags);
    const shown = await tryTool("nbdinfo", [uri(directory, "tcp", wrong)]);
    assert.notEqual(shown.status, 0, name);
    const io = await qemuIo(qemuOptions(directory, "tcp", wrong), "read 0 512");
    assert.notEqual(io.status, 0, name);
    assert.match(io.stderr, /expired|not have name|match|certificate/i);
  }
});

test("SIGHUP has certificates read again; who is connected stays, and bad files change nothing", {
  skip: noNbdinfo,
}, async () => {
  const directory = scratch.file("changing");
  await cp(good, directory, { recursive: true });
  const flags = ["--tls-dir", directory, "--tls-verify-peer", "--sheepdog", "off"];
  await using changing = await ServerProcess.start(scratch.file("store-changing"), flags);
  await changing.ok("vdi", "create", "disk", "1M");
  const works = async (certificates: string): Promise<boolean> =>
    (await tryTool("nbdinfo", [uri(certificates, "tcp", changing)])).status === 0;
  assert.ok(await works(good));
  const authority = await TestAuthority.create();
  const all = { authority, server: await authority.server(), client: await authority.client() };
  await certificateDirectory(directory, all);
  process.kill(changing.pid, "SIGHUP");
  for (let tries = 0; !(await works(directory)) && tries < 50; tries++) await sleep(100);
  assert.ok(await works(directory));
  assert.ok(!(await works(good)));
  await writeFile(join(directory, "server-cert.pem"), "not a certificate");
  process.kill(changing.pid, "SIGHUP");
  await sleep(300);
  assert.ok(await works(directory), "the old ones stay");
  const { stderr } = await changing.stop();
  assert.match(stderr, /the old ones stay/);
  assert.doesNotMatch(stderr, /PRIVATE KEY/);
});

test("kelpie tls init makes files that only their owner reads, and writes over none", async () => {
  const names = await readdir(good);
  assert.equal(names.length, 6);
  for (const name of names) {
    assert.equal((await stat(join(good, name))).mode & 0o777, 0o600, name);
  }
  const again = await runKelpie(scratch.file("store"), "tls", "init", good);
  assert.equal(again.status, 3, again.stderr);
});

test("kelpie tls client makes one more client, who gets in", { skip: noNbdinfo }, async () => {
  const alice = scratch.file("alice");
  const made = await runKelpie(server.store, "tls", "client", good, "alice", alice);
  assert.equal(made.status, 0, made.stderr);
  assert.deepEqual((await readdir(alice)).sort(), [
    "ca-cert.pem",
    "client-cert.pem",
    "client-key.pem",
  ]);
  await runTool("nbdinfo", [uri(alice)]);
});

describe("access rules", () => {
  test("certificates and addresses decide who may open what, and how", {
    skip: noNbdinfo || noQemuIo,
  }, async () => {
    const alice = scratch.file("alice-2");
    const bob = scratch.file("bob");
    for (const [name, out] of [
      ["alice", alice],
      ["bob", bob],
    ] as const) {
      const made = await runKelpie(scratch.file("store"), "tls", "client", good, name, out);
      assert.equal(made.status, 0, made.stderr);
    }
    const rules = scratch.file("access");
    await writeFile(
      rules,
      "disk write cert=alice from=127.0.0.0/8\ndisk read cert=bob\n* write from=unix\n",
    );
    await using ruled = await start("store-ruled", "--access", rules);
    await ruled.ok("vdi", "create", "secret", "1M");
    const list = async (certificates: string): Promise<string[]> => {
      const address = ruled.address("tcp");
      const all = formatNbdUri({ address, exportName: "", tls: { certificates } });
      const listed = JSON.parse(await runTool("nbdinfo", ["--json", "--list", all]));
      return listed.exports.map((entry: Record<string, unknown>) => entry["export-name"]);
    };
    assert.deepEqual(await list(alice), ["disk"]);
    assert.deepEqual(await list(good), []);
    const write = (who: string) => qemuIo(qemuOptions(who, "tcp", ruled), "write 0 512");
    assert.equal((await write(alice)).status, 0);
    assert.notEqual((await write(bob)).status, 0);
    const only = await qemuIo(["-r", ...qemuOptions(bob, "tcp", ruled)], "read 0 512");
    assert.equal(only.status, 0, only.stderr);
    assert.notEqual((await write(good)).status, 0);
    // What there is and what there is not look the same to who may not.
    const refusals: string[] = [];
    for (const exportName of ["secret", "nowhere"]) {
      const address = ruled.address("tcp");
      const asked = formatNbdUri({ address, exportName, tls: { certificates: bob } });
      const { status, stderr } = await tryTool("nbdinfo", [asked]);
      assert.notEqual(status, 0);
      refusals.push(stderr.replaceAll(exportName, "X"));
    }
    assert.equal(refusals[0], refusals[1]);
    const { stderr } = await ruled.stop();
    const refused = stderr.split("\n").find((line) => line.includes('"secret"')) ?? "";
    assert.match(refused, /export refused/);
    assert.match(refused, /"bob"/);
    assert.match(refused, /127\.0\.0\.1:/);
  });
});
