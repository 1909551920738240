import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeUtf8 } from "../base/bytes.ts";
import { attributeHash, decodeAttribute, encodeAttribute } from "./wire-attribute.ts";
import { fnv1a, formatHash64, nextPlacementHash, placementHash, vdiNameHash } from "./wire-hash.ts";
import * as inode from "./wire-inode.ts";
import { encodeIpAddress } from "./wire-node.ts";
import { decodeOid, encodeOid, formatOid, inodeOid, type Oid, oidBytes } from "./wire-oid.ts";
import { copiesOfPolicy, opcode, requestFlag } from "./wire-opcodes.ts";
import * as request from "./wire-request.ts";
import * as response from "./wire-response.ts";
import { decodeSelectorText, encodeSelectorText } from "./wire-text.ts";
import { decodeTime, encodeTime } from "./wire-time.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true });
}

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const vid = fc.nat(0xffffff);
const text = fc
  .string({ unit: "grapheme", maxLength: 40 })
  .map((s) => s.toWellFormed())
  .filter((s) => !s.includes("\0") && encodeUtf8(s).length < 256);
const timeMs = fc.nat(2 ** 32 - 1).map((seconds) => seconds * 1000 + 250);

const prefix = record({
  protocolVersion: u8,
  opcode: u8,
  flags: u16,
  epoch: u32,
  id: u32,
  dataLength: u32,
});
const oid: fc.Arbitrary<Oid> = record({
  kind: fc.constantFrom("data", "vmstate", "inode", "attribute", "btree", "ledger"),
  vid,
  index: u32,
}).map((o) => (o.kind === "inode" ? inodeOid(o.vid) : (o as Oid)));

test("QEMU's LOCK_VDI has the bytes that QEMU sends", () => {
  const prefix = { protocolVersion: 1, opcode: opcode.lockVdi, flags: requestFlag.write };
  const message = request.encodeVdiRequest({ ...prefix, epoch: 0, id: 0, dataLength: 512 }, {});
  assert.equal(hex(message), `${"01120100"}${"00000000".repeat(2)}00020000${"00".repeat(32)}`);
  const names = encodeSelectorText("test", "");
  assert.equal(names.length, 512);
  assert.equal(hex(names.subarray(0, 8)), "7465737400000000");
});

test("the answer to it has the vid where QEMU looks for it", () => {
  const bytes = new Uint8Array(51).fill(0xff);
  const prefix = { opcode: opcode.lockVdi, epoch: 1, id: 0, dataLength: 0, result: 0 };
  response.encodeResponsePrefix(bytes, 3, prefix);
  response.encodeVdiAnswer(bytes, 3, { vid: 0x7c2b25 });
  const expected = `00120000${"01000000"}${"00000000".repeat(4)}252b7c00${"00".repeat(20)}`;
  assert.equal(hex(bytes.subarray(3)), expected);
});

test("a write of an owned object has the bytes that QEMU sends", () => {
  const message = request.encodeObjectRequest(
    { protocolVersion: 0, opcode: 3, flags: 5, epoch: 0, id: 9, dataLength: 0x1000 },
    { oid: { kind: "data", vid: 0x7c2b25, index: 3 }, copies: 3, offset: 0x1000 },
  );
  const fields = `03000000252b7c00${"00".repeat(8)}0300000000000000${"0010000000000000"}`;
  assert.equal(hex(message), `0003050000000000${"09000000"}00100000${fields}`);
});

test("object ids have the bits of the protocol", () => {
  const shown = (kind: Oid["kind"], index: number) => formatOid({ kind, vid: 0x7c2b25, index });
  assert.equal(shown("data", 1), "007c2b2500000001");
  assert.equal(shown("inode", 0), "807c2b2500000000");
  assert.equal(shown("vmstate", 2), "407c2b2500000002");
  assert.equal(shown("attribute", 0x972882c4), "207c2b25972882c4");
  assert.equal(shown("btree", 1), "107c2b2500000001");
  assert.equal(shown("ledger", 1), "087c2b2500000001");
  const bytes = new Uint8Array(10);
  encodeOid(bytes, 2, { kind: "inode", vid: 0x7c2b25, index: 0 });
  assert.equal(hex(bytes.subarray(2)), "00000000252b7c80");
});

test("an id of two kinds, of none, and an inode with an index name nothing", () => {
  for (const high of [0xc0, 0x01, 0x07, 0x88, 0xff]) {
    assert.equal(decodeOid(new Uint8Array([0, 0, 0, 0, 1, 0, 0, high]), 0), undefined);
  }
  assert.equal(decodeOid(new Uint8Array([1, 0, 0, 0, 1, 0, 0, 0x80]), 0), undefined);
});

test("names hash as in the original", () => {
  const vectors = {
    test: 0x7c2b25,
    test0: 0xfd34af,
    test1: 0xfd32fc,
    test2: 0xfd3815,
    Alice: 0x15d167,
    base: 0x54c278,
    "01909709": 0,
    "05421217": 0xffffff,
    "00471718": 0xfffff9,
  };
  for (const [name, hash] of Object.entries(vectors)) assert.equal(vdiNameHash(name), hash, name);
  assert.equal(formatHash64(fnv1a(new Uint8Array(0))), "cbf29ce484222325");
});

test("the ring of nodes hashes as in the original", () => {
  assert.equal(formatHash64(placementHash(encodeUtf8("test"))), "b2ad79df6c09d91a");
  const ofOid = (oid: Oid) => {
    const bytes = new Uint8Array(oidBytes);
    encodeOid(bytes, 0, oid);
    return formatHash64(placementHash(bytes));
  };
  assert.equal(ofOid(inodeOid(0x7c2b25)), "8b4b18c243befa1a");
  assert.equal(ofOid({ kind: "data", vid: 0x7c2b25, index: 1 }), "ed0c37b076d586ac");
  const node = new Uint8Array([...encodeIpAddress("127.0.0.1"), 7000 & 0xff, 7000 >> 8]);
  const first = placementHash(node);
  assert.equal(formatHash64(first), "9cb3d6dd0a4c0f9f");
  assert.equal(formatHash64(nextPlacementHash(first)), "3af2cba6e538cdf3");
  const second = nextPlacementHash(nextPlacementHash(first));
  assert.equal(formatHash64(second), "fd38432fd111924b");
});

test("attributes hash as in the original", () => {
  const attribute = { name: "test", tag: "", snapId: 0, key: "key" };
  assert.equal(attributeHash(attribute), 0x972882c4);
});

test("copy policies say how many strips and parities there are", () => {
  const policies = { "2:1": 0x11, "4:2": 0x22, "8:4": 0x44, "16:7": 0x87, "16:15": 0x8f };
  for (const [name, policy] of Object.entries(policies)) {
    const { data, parity } = copiesOfPolicy(policy);
    assert.equal(`${data}:${parity}`, name);
  }
});

test("an inode has its fields where the protocol has them", () => {
  const header = inode.encodeInodeHeader({
    name: "n",
    tag: "t",
    createdMs: 1000,
    snapshotMs: 2000,
    vmClockNs: 3,
    sizeBytes: 4,
    vmStateBytes: 5,
    copyPolicy: 6,
    storePolicy: 7,
    copies: 8,
    blockSizeShift: 9,
    snapId: 10,
    vid: 11,
    parentVid: 12,
    btreeNodes: 13,
  });
  assert.equal(header.length, 0x1238);
  const at = (offset: number) => header[offset];
  assert.deepEqual([at(0), at(256), at(516), at(524)], [0x6e, 0x74, 1, 2]);
  assert.deepEqual([at(528), at(536), at(544)], [3, 4, 5]);
  assert.deepEqual([...header.subarray(552, 557)], [6, 7, 8, 9, 10]);
  assert.deepEqual([at(560), at(564), at(568)], [11, 12, 13]);
  assert.equal(inode.inodeEntriesAt + 4 * 2 ** 20, inode.inodeBytes);
  assert.equal(inode.inodeBytes + 8 * 2 ** 20, inode.inodeBytesMax);
});

test("requests are decoded as they were encoded", () => {
  const decoded = { protocolVersion: 0, opcode: 0, flags: 0, epoch: 0, id: 0, dataLength: 0 };
  const placed = (bytes: Uint8Array) => Buffer.concat([new Uint8Array(3), bytes]);
  fc.assert(
    fc.property(prefix, oid, oid, u8, u8, u32, (p, id, from, copies, copyPolicy, offset) => {
      const fields = { oid: id, copyFrom: from, copies, copyPolicy, offset };
      const bytes = placed(request.encodeObjectRequest(p, fields));
      request.decodeRequestPrefix(bytes, 3, decoded);
      assert.deepEqual(decoded, p);
      assert.deepEqual(request.decodeObjectFields(bytes, 3), fields);
    }),
  );
  const vdi = record({
    sizeBytes: fc.maxSafeNat(),
    baseVid: u32,
    copies: u8,
    copyPolicy: u8,
    storePolicy: u8,
    blockSizeShift: u8,
    snapId: u32,
    lockType: u32,
  });
  const cluster = record({
    copies: u8,
    copyPolicy: u8,
    clusterFlags: u16,
    nodes: u32,
    blockSizeShift: u8,
  });
  const state = record({
    oldVid: u32,
    newVid: u32,
    copies: u8,
    setBitmap: fc.boolean(),
    copyPolicy: u8,
    blockSizeShift: u8,
  });
  fc.assert(
    fc.property(prefix, vdi, cluster, state, (p, v, c, s) => {
      const ofVdi = placed(request.encodeVdiRequest(p, v));
      assert.deepEqual(request.decodeVdiFields(ofVdi, 3), v);
      const ofCluster = placed(request.encodeClusterRequest(p, c));
      assert.deepEqual(request.decodeClusterFields(ofCluster, 3), c);
      const ofState = placed(request.encodeVdiStateRequest(p, s));
      assert.deepEqual(request.decodeVdiStateFields(ofState, 3), s);
    }),
  );
});

test("responses are decoded as they were encoded", () => {
  const decoded = { opcode: 0, epoch: 0, id: 0, dataLength: 0, result: 0 };
  const prefix = record({ opcode: u8, epoch: u32, id: u32, dataLength: u32, result: u32 });
  const vdi = record({ vid: u32, attributeId: u32, copies: u8, blockSizeShift: u8 });
  const node = record({ nodes: u32, sizeBytes: fc.maxSafeNat(), freeBytes: fc.maxSafeNat() });
  const cluster = record({ copies: u8, copyPolicy: u8, blockSizeShift: u8 });
  fc.assert(
    fc.property(prefix, vdi, node, cluster, (p, v, n, c) => {
      const bytes = new Uint8Array(60).fill(0xaa);
      response.encodeResponsePrefix(bytes, 5, p);
      response.decodeResponsePrefix(bytes, 5, decoded);
      assert.deepEqual(decoded, p);
      response.encodeVdiAnswer(bytes, 5, v);
      assert.deepEqual(response.decodeVdiAnswer(bytes, 5), v);
      response.encodeResponsePrefix(bytes, 5, p);
      response.encodeNodeAnswer(bytes, 5, n);
      assert.deepEqual(response.decodeNodeAnswer(bytes, 5), n);
      response.encodeClusterDefault(bytes, 5, c);
      assert.deepEqual(response.decodeClusterDefault(bytes, 5), c);
      assert.deepEqual([bytes[4], bytes[53]], [0xaa, 0xaa]);
    }),
  );
  const bytes = new Uint8Array(48);
  const sha1 = new Uint8Array(20).fill(7);
  response.encodeHashAnswer(bytes, 0, sha1);
  assert.deepEqual(response.decodeHashAnswer(bytes, 0), sha1);
});

test("inodes and attributes are decoded as they were encoded", () => {
  const header = record({
    name: text,
    tag: text,
    createdMs: timeMs,
    snapshotMs: timeMs,
    vmClockNs: fc.maxSafeNat(),
    sizeBytes: fc.maxSafeNat(),
    vmStateBytes: fc.maxSafeNat(),
    copyPolicy: u8,
    storePolicy: u8,
    copies: u8,
    blockSizeShift: u8,
    snapId: u32,
    vid,
    parentVid: vid,
    btreeNodes: u32,
  });
  const attribute = record({
    name: text,
    tag: text,
    createdMs: timeMs,
    snapId: u32,
    key: text,
    value: fc.uint8Array(),
  });
  fc.assert(
    fc.property(header, attribute, fc.uint32Array(), (h, a, entries) => {
      assert.deepEqual(inode.decodeInodeHeader(inode.encodeInodeHeader(h)), h);
      assert.deepEqual(decodeAttribute(encodeAttribute(a)), a);
      const bytes = inode.encodeInodeEntries(entries);
      assert.deepEqual(inode.decodeInodeEntries(bytes), entries);
    }),
  );
});

test("a name of 256 bytes fits without a zero byte; one more does not", () => {
  const names = encodeSelectorText("n".repeat(256), "t".repeat(256));
  assert.deepEqual(decodeSelectorText(names), { name: "n".repeat(256), tag: "t".repeat(256) });
  assert.deepEqual(decodeSelectorText(encodeSelectorText("n")), { name: "n", tag: "" });
  assert.throws(() => encodeSelectorText("n".repeat(257)), { code: "invalid" });
  assert.throws(() => encodeSelectorText("a\0b"), { code: "invalid" });
  assert.throws(() => decodeSelectorText(new Uint8Array(255)), { code: "invalid" });
  assert.throws(() => decodeSelectorText(new Uint8Array(256).fill(0xff)), { code: "invalid" });
});

test("times keep their microseconds", () => {
  const bytes = new Uint8Array(8);
  encodeTime(bytes, 0, 1_700_000_000_123.457);
  assert.equal(hex(bytes), "e8cd5b07" + "00f15365");
  assert.equal(decodeTime(bytes, 0), 1_700_000_000_123.457);
});

test("an attribute of impossible size is refused", () => {
  const attribute = { name: "n", tag: "", createdMs: 0, snapId: 0, key: "k" };
  const value = new Uint8Array(65_536);
  assert.equal(decodeAttribute(encodeAttribute({ ...attribute, value })).value.length, 65_536);
  const longer = new Uint8Array(65_537);
  assert.throws(() => encodeAttribute({ ...attribute, value: longer }), { code: "invalid" });
  assert.throws(() => decodeAttribute(new Uint8Array(66_319)), { code: "invalid" });
  const bytes = encodeAttribute({ ...attribute, value });
  bytes[526] = 2;
  assert.throws(() => decodeAttribute(bytes), { code: "invalid" });
});
