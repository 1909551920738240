import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { certificateDirectory, TestAuthority } from "../../test/support/certificates.ts";
import { createNodeHost } from "../host/node/node-host.ts";
import type { CliContext } from "./context.ts";
import { type DoorFlags, openDoors, parseConnections } from "./serve-doors.ts";

const context = { host: createNodeHost({ logLevel: "silent" }) } as CliContext;
let directory = "";
let tlsDir = "";
let access = "";

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "kelpie-doors-"));
  const authority = await TestAuthority.create();
  tlsDir = await certificateDirectory(join(directory, "tls"), {
    authority,
    server: await authority.server(),
  });
  access = join(directory, "access");
  await writeFile(access, "* read from=10.0.0.0/8\n");
});
after(() => rm(directory, { recursive: true }));

test("a door is guarded when it takes more than TLS to get in", async () => {
  const cases: [DoorFlags, { nbd: boolean; sheepdog: boolean }][] = [
    [{}, { nbd: false, sheepdog: false }],
    [{ tlsDir }, { nbd: false, sheepdog: false }],
    [
      { tlsDir, access },
      { nbd: true, sheepdog: false },
    ],
    [{ access }, { nbd: false, sheepdog: false }],
    [
      { tlsDir, tlsVerifyPeer: true },
      { nbd: true, sheepdog: false },
    ],
    [
      { tlsDir, tlsVerifyPeer: true, tls: "offered" },
      { nbd: false, sheepdog: false },
    ],
    [
      { tlsDir, tlsVerifyPeer: true, sheepdogTls: true },
      { nbd: true, sheepdog: true },
    ],
    [
      { tlsDir, sheepdogTls: true },
      { nbd: false, sheepdog: false },
    ],
  ];
  for (const [flags, guarded] of cases) {
    const { nbdIsGuarded, sheepdogIsGuarded } = await openDoors(context, flags);
    const found = { nbd: nbdIsGuarded, sheepdog: sheepdogIsGuarded };
    assert.deepEqual(found, guarded, JSON.stringify(flags));
  }
});

test("TLS is required on TCP and offered on Unix sockets", async () => {
  const { tls } = await openDoors(context, { tlsDir });
  assert.equal(tls?.at({ kind: "tcp", host: "127.0.0.1", port: 1 }).required, true);
  assert.equal(tls?.at({ kind: "unix", path: "/s" }).required, false);
  const offered = await openDoors(context, { tlsDir, tls: "offered" });
  assert.equal(offered.tls?.at({ kind: "tcp", host: "127.0.0.1", port: 1 }).required, false);
  assert.equal((await openDoors(context, { tlsDir, tls: "off" })).tls, undefined);
});

test("flags that contradict each other, and files that are not there, are refused", async () => {
  const names = join(directory, "names");
  await writeFile(names, "* read cert=me\n");
  const cases: [DoorFlags, RegExp][] = [
    [{ tls: "required" }, /needs certificates/],
    [{ tls: "maybe", tlsDir }, /off, offered or required/],
    [{ tlsVerifyPeer: true }, /without TLS/],
    [{ sheepdogTls: true }, /needs certificates/],
    [{ tlsDir: join(directory, "nowhere") }, /ca-cert\.pem/],
    [{ access: names, tlsDir }, /must show a certificate/],
    [{ access: join(directory, "nowhere") }, /nowhere/],
    [{ maxConnections: "0" }, /one number, or two/],
    [{ maxConnections: "5,x" }, /one number, or two/],
  ];
  for (const [flags, message] of cases) {
    await assert.rejects(openDoors(context, flags), { message }, JSON.stringify(flags));
  }
});

test("one address has half of all connections unless it is said", () => {
  assert.deepEqual(parseConnections(undefined), { max: 512, perAddressMax: 256 });
  assert.deepEqual(parseConnections("9"), { max: 9, perAddressMax: 5 });
  assert.deepEqual(parseConnections("9,9"), { max: 9, perAddressMax: 9 });
});

test("rules that are wrong when they are read again change nothing", async () => {
  const path = join(directory, "changing");
  await writeFile(path, "* read\n");
  const doors = await openDoors(context, { access: path });
  const listed = async () => {
    const names = ["a", "b"].map((name) => ({ name, description: "" }));
    const exports = { list: async () => names, open: () => Promise.reject(new Error("no")) };
    const client = { protocol: "nbd", peer: "unix" } as const;
    const shown = await doors.access?.restrict(exports).list(client);
    return shown?.map(({ name }) => name);
  };
  await writeFile(path, "a read\n");
  await doors.reload();
  assert.deepEqual(await listed(), ["a"]);
  await writeFile(path, "b nonsense\n");
  await doors.reload();
  assert.deepEqual(await listed(), ["a"]);
});
