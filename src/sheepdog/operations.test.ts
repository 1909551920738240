import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, test } from "node:test";
import type { FakeObjects } from "../../test/support/fake-objects.ts";
import {
  none,
  type RawReply,
  type ServedObjects,
  serveObjects,
} from "../../test/support/raw-sheepdog.ts";
import { type Log, silentLog } from "../host/log.ts";
import { result } from "./results.ts";
import { attributeBytes, decodeAttribute, encodeAttribute } from "./wire-attribute.ts";
import { decodeClusterInfo, decodeEpochs } from "./wire-cluster.ts";
import { decodeNodes } from "./wire-node.ts";
import { encodeOid, inodeOid, type Oid } from "./wire-oid.ts";
import { clusterFlag, opcode, requestFlag } from "./wire-opcodes.ts";
import {
  decodeClusterDefault,
  decodeHashAnswer,
  decodeNodeAnswer,
  decodeVdiAnswer,
} from "./wire-response.ts";
import * as stat from "./wire-stat.ts";
import { decodeVdiStates, vdiStateBytes } from "./wire-vdi-state.ts";

let running: ServedObjects<FakeObjects> | undefined;
afterEach(async () => {
  await running?.stop();
  running = undefined;
});

async function serve(server: { allowAdmin?: boolean } = {}) {
  const served = await serveObjects<FakeObjects>({ server });
  running = served;
  return { served, client: await served.connect() };
}

const node = { host: "127.0.0.1", port: 7000, vnodes: 128, zone: 16777343 };

test("a VDI is named by 256 bytes, or 512 with a tag, and nothing else", async () => {
  const { client } = await serve();
  assert.equal(await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 }), 0x7c2b25);
  for (const code of [opcode.lockVdi, opcode.getVdiInfo]) {
    const { vdi } = await client.vdi(code, "test", { tag: "" });
    assert.deepEqual([vdi.vid, vdi.copies, vdi.blockSizeShift], [0x7c2b25, 3, 22]);
    assert.equal((await client.vdi(code, "test")).result, result.success);
    assert.equal((await client.vdi(code, "other")).result, result.noVdi);
    assert.equal((await client.vdi(code, "test", { tag: "t" })).result, result.noTag);
    assert.equal((await client.vdi(code, "test", { snapId: 1 })).result, result.noTag);
    for (const length of [0, 255, 257, 511, 513]) {
      const reply = await client.tell(code, new Uint8Array(length).fill(65));
      assert.equal(reply.result, result.invalidParameters);
    }
  }
  assert.equal(
    (await client.vdi(opcode.newVdi, "t", { tag: "" })).result,
    result.invalidParameters,
  );
});

test("a new VDI must have an object size that there is", async () => {
  const { client } = await serve();
  const made = (blockSizeShift: number) => client.vdi(opcode.newVdi, "t", { blockSizeShift });
  assert.equal((await made(19)).result, result.invalidParameters);
  assert.equal((await made(32)).result, result.invalidParameters);
  assert.equal((await made(20)).vdi.blockSizeShift, 20);
  assert.equal((await made(0)).result, result.vdiExists);
});

test("releasing always succeeds, with and without a name", async () => {
  const { client } = await serve();
  assert.equal((await client.tell(opcode.releaseVdi, Buffer.from("test\0"))).result, 0);
  assert.equal((await client.plain(opcode.releaseVdi)).result, result.success);
});

test("maps of vids are 2 MiB or an error", async () => {
  const { client } = await serve();
  const vid = await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 });
  await client.vidOf(opcode.deleteVdi, "test");
  for (const [code, version] of [
    [opcode.readVdis, 0],
    [opcode.readDeletedVdis, 10],
  ] as const) {
    const given = { protocolVersion: version };
    const reply = await client.plain(code, 2 ** 21, given);
    const set = [...reply.payload.entries()].filter(([, byte]) => byte !== 0);
    assert.deepEqual(set, [[vid >> 3, 1 << (vid & 7)]]);
    assert.equal((await client.plain(code, 2 ** 21 - 1, given)).result, result.invalidParameters);
  }
});

test("states of VDIs need room for all", async () => {
  const { client } = await serve();
  const vid = await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22, copies: 5 });
  const short = await client.plain(opcode.getVdiCopies, vdiStateBytes - 1);
  assert.deepEqual([short.result, short.dataLength], [result.bufferSmall, 0]);
  const { payload } = await client.plain(opcode.getVdiCopies, 512 * vdiStateBytes);
  const states = decodeVdiStates(payload);
  assert.deepEqual(
    states.map((state) => [state.vid, state.copies, state.lockState]),
    [[vid, 5, 1]],
  );
});

test("states of more VDIs than a reply may have are refused, however much room there is", async () => {
  const { client, served } = await serve();
  await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 });
  const [state] = await served.objects.states();
  assert.ok(state !== undefined);
  served.objects.states = async () => new Array<typeof state>(50_000).fill(state);
  const reply = await client.plain(opcode.getVdiCopies, 2 ** 31);
  assert.deepEqual([reply.result, reply.dataLength], [result.noMemory, 0]);
});

test("attributes are set, got, set once and deleted", async () => {
  const { client } = await serve();
  const attribute = { name: "test", tag: "", createdMs: 0, snapId: 0, key: "key" };
  const value = Buffer.from("value");
  const tell = async (flags: number, value: Uint8Array = none) => {
    const payload = encodeAttribute({ ...attribute, value });
    const given = { flags: requestFlag.write | flags };
    const reply = await client.tell(opcode.getVdiAttribute, payload, given);
    return { ...reply, ...decodeVdiAnswer(reply.header, 0) };
  };
  assert.equal((await tell(0)).result, result.noVdi);
  await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 });
  assert.equal((await tell(0)).result, result.noObject);
  const set = await tell(requestFlag.attributeCreate, value);
  assert.deepEqual([set.result, set.vid, set.attributeId], [0, 0x7c2b25, 0x972882c4]);
  const oid: Oid = { kind: "attribute", vid: set.vid, index: set.attributeId };
  const { payload } = await client.read(oid, 0, attributeBytes);
  assert.deepEqual(Buffer.from(decodeAttribute(payload).value), value);
  const { attributeCreate, attributeExclusive, attributeDelete } = requestFlag;
  const exclusive = attributeCreate | attributeExclusive;
  assert.equal((await tell(exclusive, value)).result, result.vdiExists);
  assert.equal((await tell(attributeDelete)).result, result.success);
  assert.equal((await tell(attributeDelete)).result, result.noObject);
  assert.equal((await client.tell(opcode.getVdiAttribute, none)).result, result.invalidParameters);
});

test("the cluster is one formatted node", async () => {
  const { client } = await serve();
  const list = await client.plain(opcode.getNodeList, 491_520);
  const expected = { ...node, spaceBytes: 1000 * 2 ** 30 };
  assert.equal(decodeNodeAnswer(list.header, 0).nodes, 1);
  assert.deepEqual(decodeNodes(list.payload, 1), [expected]);
  const info = decodeClusterInfo((await client.plain(opcode.clusterInfo, 491_568)).payload);
  assert.deepEqual(info.nodes, [expected]);
  assert.deepEqual(
    [info.createdMs, info.copies, info.status, info.blockSizeShift, info.storeName, info.epoch],
    [1_700_000_000_000, 3, 1, 22, "kelpie", 1],
  );
  const short = await client.plain(opcode.clusterInfo, 491_567);
  assert.equal(short.result, result.invalidParameters);
  const { header } = await client.plain(opcode.getClusterDefault);
  const defaults = { copies: 3, copyPolicy: 0, blockSizeShift: 22 };
  assert.deepEqual(decodeClusterDefault(header, 0), defaults);
  const space = decodeNodeAnswer((await client.plain(opcode.statSheep)).header, 0);
  assert.deepEqual([space.sizeBytes, space.freeBytes], [1000 * 2 ** 30, 600 * 2 ** 30]);
});

test("the cluster's record has its node, or no room for it and says so", async () => {
  const { client } = await serve();
  const ask = (nodes: number, dataLength: number) =>
    client.cluster(opcode.statCluster, { nodes }, { dataLength });
  const full = await ask(512, 3 * (512 * 80 + 48));
  const [record, none] = decodeEpochs(full.payload, 512);
  assert.equal(none, undefined);
  assert.equal(record?.clusterFlags, clusterFlag.autoVnodes);
  assert.deepEqual(record?.nodes, [{ ...node, spaceBytes: 1000 * 2 ** 30 }]);
  const head = await ask(0, 48);
  assert.equal(head.result, result.bufferSmall);
  assert.equal(decodeEpochs(head.payload, 0)[0]?.epoch, 1);
  assert.equal((await ask(1, 47)).dataLength, 0);
  assert.equal((await ask(6145, 2 ** 20)).result, result.invalidParameters);
});

test("what nodes have to say of themselves is said", async () => {
  const { client } = await serve();
  const vid = await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 });
  await client.create({ kind: "data", vid, index: 0 }, 0, new Uint8Array(512));
  const recovery = await client.plain(opcode.statRecovery, 24);
  assert.equal(stat.decodeRecoveryState(recovery.payload).underWay, false);
  const disks = stat.decodeMdInfo((await client.plain(opcode.mdInfo, 263_688)).payload);
  assert.deepEqual(disks, [
    { index: 0, freeBytes: 600 * 2 ** 30, usedBytes: 400 * 2 ** 30, path: "/srv/disks" },
  ]);
  const numbers = stat.decodeStat((await client.plain(opcode.stat, 120)).payload);
  assert.deepEqual([numbers.gatewayTotal, numbers.gatewayWrites], [5, 1]);
  assert.equal((await client.plain(opcode.reweight)).result, result.success);
  assert.equal((await client.plain(opcode.getVnodes, 4)).payload[0], 128);
  const names = Buffer.from((await client.plain(opcode.getStoreList, 512)).payload).toString();
  assert.equal(names, "kelpie plain tree \0");
});

test("the log's level is shown and set, by the numbers of syslog", async () => {
  const log: Log = { ...silentLog, level: "warn" };
  const served = await serveObjects<FakeObjects>({ log });
  running = served;
  const client = await served.connect();
  const level = async () => (await client.plain(opcode.getLogLevel, 4)).payload[0];
  const set = async (level: number) =>
    (await client.tell(opcode.setLogLevel, Uint8Array.of(level, 0, 0, 0))).result;
  assert.equal(await level(), 4);
  assert.equal(await set(7), result.success);
  assert.deepEqual([log.level, await level()], ["debug", 7]);
  assert.equal(await set(5), result.success);
  assert.equal(log.level, "info");
  assert.equal(await set(0), result.success);
  assert.equal(log.level, "error");
  assert.equal(await set(8), result.invalidParameters);
  assert.equal((await client.tell(opcode.setLogLevel, none)).result, result.invalidParameters);
});

test("recovery can be switched off and throttled, which is shown", async () => {
  const { client } = await serve();
  const throttling = { atATime: 2, intervalMs: 1000, on: true };
  const payload = stat.encodeThrottling(throttling);
  assert.equal((await client.tell(opcode.setRecovery, payload)).result, result.success);
  const got = await client.plain(opcode.getRecovery, 24);
  assert.deepEqual(stat.decodeThrottling(got.payload), throttling);
  assert.equal((await client.tell(opcode.setRecovery, none)).result, result.invalidParameters);
  const isDisabled = async () =>
    decodeClusterInfo((await client.plain(opcode.clusterInfo, 491_568)).payload).recoveryDisabled;
  await client.plain(opcode.disableRecover);
  assert.equal(await isDisabled(), true);
  await client.plain(opcode.enableRecover);
  assert.equal(await isDisabled(), false);
});

test("objects can be looked for and hashed without reading them", async () => {
  const { client } = await serve();
  const vid = await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 24 });
  const oid = (index: number): Oid => ({ kind: "data", vid, index });
  await client.create(oid(0), 0, new Uint8Array(4096).fill(9));
  assert.equal((await client.object(opcode.exist, oid(0))).result, result.success);
  assert.equal((await client.object(opcode.exist, oid(1))).result, result.noObject);
  const hash = await client.object(opcode.getHash, oid(0));
  const content = Buffer.concat([Buffer.alloc(4096, 9), Buffer.alloc(2 ** 22 - 4096)]);
  const expected = createHash("sha1").update(content).digest("hex");
  assert.equal(Buffer.from(decodeHashAnswer(hash.header, 0)).toString("hex"), expected);
  assert.equal((await client.object(opcode.getHash, oid(1))).result, result.noObject);
  const list = (oids: Oid[]) => {
    const payload = new Uint8Array(8 * oids.length);
    for (const [index, oid] of oids.entries()) encodeOid(payload, 8 * index, oid);
    return client.tell(opcode.oidsExist, payload, {
      flags: requestFlag.write | requestFlag.piggyback,
    });
  };
  const all = await list([oid(0), inodeOid(vid)]);
  assert.deepEqual([all.result, all.dataLength], [result.success, 0]);
  const some = await list([oid(1), oid(0), oid(2)]);
  assert.deepEqual([some.result, some.dataLength], [result.noObject, 16]);
  assert.equal((await client.tell(opcode.oidsExist, new Uint8Array(7))).result, 5);
});

/** How often others had their turn before it was answered. */
async function turnsDuring(reply: Promise<RawReply>) {
  let turns = 0;
  let isDone = false;
  const others = () => {
    turns++;
    if (!isDone) setImmediate(others);
  };
  setImmediate(others);
  const { result: code } = await reply;
  isDone = true;
  return { turns, result: code };
}

test("others have their turn while many objects are looked for, or a large one is hashed", async () => {
  const { client } = await serve();
  const options = { sizeBytes: 2 ** 26, blockSizeShift: 24 };
  const vid = await client.vidOf(opcode.newVdi, "test", options);
  const payload = new Uint8Array(8 * 100_000);
  for (let at = 0; at < payload.length; at += 8) encodeOid(payload, at, inodeOid(vid));
  const looking = await turnsDuring(client.tell(opcode.oidsExist, payload));
  assert.equal(looking.result, result.success);
  assert.ok(looking.turns >= 50, `${looking.turns} turns for 100,000 objects`);
  const oid: Oid = { kind: "data", vid, index: 0 };
  await client.create(oid, 0, new Uint8Array(4096).fill(9));
  const hashing = await turnsDuring(client.object(opcode.getHash, oid));
  assert.equal(hashing.result, result.success);
  assert.ok(hashing.turns >= 12, `${hashing.turns} turns for 16 MiB`);
});

test("a store without disks is formatted; one with disks is not", async () => {
  const { client, served } = await serve();
  const plain = { payload: Buffer.from("plain\0") };
  const fields = { copies: 2, blockSizeShift: 23, clusterFlags: clusterFlag.useLock };
  const format = (payload = plain) => client.cluster(opcode.makeFs, fields, payload);
  assert.equal((await format()).result, result.success);
  const { defaults, locking } = served.objects;
  assert.deepEqual(defaults, { copies: 2, copyPolicy: 0, blockSizeShift: 23 });
  assert.equal(locking, true);
  assert.equal((await format({ payload: Buffer.from("farm\0") })).result, result.noStore);
  const recycle = await client.cluster(opcode.makeFs, { clusterFlags: 0x10 }, plain);
  assert.equal(recycle.result, result.noSupport);
  await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 });
  assert.equal((await format()).result, result.noSupport);
  assert.equal((await client.vdi(opcode.getVdiInfo, "test")).result, result.success);
});

test("administration is refused, and done when it is allowed", async () => {
  const refusing = await serve();
  for (const code of [opcode.shutdown, opcode.killNode, opcode.mdUnplug, opcode.mdPlug]) {
    assert.equal((await refusing.client.plain(code)).result, result.noSupport);
  }
  assert.equal(refusing.served.stops, 0);
  await refusing.served.stop();
  const { client, served } = await serve({ allowAdmin: true });
  await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 });
  const format = await client.cluster(opcode.makeFs, {}, { payload: Buffer.from("kelpie\0") });
  assert.equal(format.result, result.success);
  assert.equal((await client.vdi(opcode.getVdiInfo, "test")).result, result.noVdi);
  assert.equal((await client.plain(opcode.shutdown)).result, result.success);
  assert.equal(served.stops, 1);
});

test("after SHUTDOWN and KILL_NODE connections end without an answer, which clients send again", async () => {
  for (const code of [opcode.shutdown, opcode.killNode]) {
    const { client, served } = await serve({ allowAdmin: true });
    const vid = await client.vidOf(opcode.newVdi, "test", { sizeBytes: 2 ** 22 });
    const oid = { kind: "data", vid, index: 0 } as const;
    await client.create(oid, 0, new Uint8Array(512));
    const other = await served.connect();
    assert.equal((await other.plain(code)).result, result.success);
    assert.equal(served.stops, 1);
    await other.closed;
    // An I/O error to a guest, if there were one.
    await assert.rejects(client.write(oid, 0, new Uint8Array(512)), /closed the connection/);
    await served.stop();
  }
});
