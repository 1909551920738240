import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import * as cluster from "./wire-cluster.ts";
import * as node from "./wire-node.ts";
import * as stat from "./wire-stat.ts";
import { decodeVdiStates, encodeVdiState, lockState, vdiStateBytes } from "./wire-vdi-state.ts";

function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true });
}

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const u64 = fc.maxSafeNat();
const host = fc.constantFrom("127.0.0.1", "192.168.250.3", "::1", "2001:db8::7:0:1", "fe80::");
const nodeId = record({ host, port: u16 });
const clusterNode = record({ host, port: u16, vnodes: u16, zone: u32, spaceBytes: u64 });
const storeName = fc.constantFrom("plain", "tree", "");

test("a node has its fields where the protocol has them", () => {
  const bytes = node.encodeNodes([
    { host: "127.0.0.1", port: 7000, vnodes: 128, zone: 16777343, spaceBytes: 2 ** 40 },
  ]);
  const id = `${"00".repeat(12)}7f000001581b${"00".repeat(22)}`;
  const expected = `${"00".repeat(24)}${id}80000000${"7f000001"}0000000000010000`;
  assert.equal(Buffer.from(bytes).toString("hex"), expected);
  assert.equal(node.defaultZone("127.0.0.1"), 16777343);
});

test("a name is no address", () => {
  for (const host of ["localhost", "256.0.0.1", "1.2.3", "::g", ""]) {
    assert.throws(() => node.encodeIpAddress(host), { code: "invalid" }, host);
  }
});

test("nodes, epochs and clusters are decoded as they were encoded", () => {
  const epoch = record({
    clusterCreatedMs: u32,
    timeMs: u32.map((seconds) => seconds * 1000),
    epoch: u32,
    recoveryDisabled: fc.boolean(),
    copies: u8,
    copyPolicy: u8,
    clusterFlags: u16,
    storeName,
    nodes: fc.array(clusterNode, { maxLength: 4 }),
  });
  const info = record({
    protocolVersion: u8,
    recoveryDisabled: fc.boolean(),
    epoch: u32,
    createdMs: u32,
    clusterFlags: u16,
    copies: u8,
    copyPolicy: u8,
    status: u8,
    blockSizeShift: u8,
    storeName,
    nodes: fc.array(clusterNode, { maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(epoch, { maxLength: 3 }), info, (epochs, i) => {
      const records = epochs.map((record) => cluster.encodeEpoch(record, 5));
      assert.deepEqual(cluster.decodeEpochs(Buffer.concat(records), 5), epochs);
      const bytes = cluster.encodeClusterInfo(i);
      assert.equal(bytes.length, 491_568);
      assert.deepEqual(cluster.decodeClusterInfo(bytes), i);
    }),
    { numRuns: 30 },
  );
});

test("what nodes say of themselves is decoded as it was encoded", () => {
  const recovery = record({ underWay: fc.boolean(), phase: u32, finished: u64, total: u64 });
  const throttling = record({ atATime: u32, intervalMs: u64, on: fc.boolean() });
  const path = fc.constantFrom("/srv/disks", "");
  const disk = record({ index: u32, freeBytes: u64, usedBytes: u64, path });
  fc.assert(
    fc.property(recovery, throttling, fc.array(disk, { maxLength: 64 }), u64, (r, t, disks, n) => {
      assert.deepEqual(stat.decodeRecoveryState(stat.encodeRecoveryState(r)), r);
      assert.deepEqual(stat.decodeThrottling(stat.encodeThrottling(t)), t);
      const bytes = stat.encodeMdInfo(disks);
      assert.equal(bytes.length, 263_688);
      assert.deepEqual(stat.decodeMdInfo(bytes), disks);
      const numbers = stat.encodeStat({ gatewayActive: n, peerWrites: n });
      assert.equal(numbers.length, 120);
      const decoded = stat.decodeStat(numbers);
      assert.deepEqual([decoded.gatewayActive, decoded.peerWrites, decoded.peerReads], [n, n, 0]);
      assert.deepEqual(stat.encodeStat(decoded), numbers);
    }),
    { numRuns: 30 },
  );
});

test("states of VDIs are decoded as they were encoded", () => {
  const state = record({
    vid: u32,
    copies: u8,
    snapshot: fc.boolean(),
    deleted: fc.boolean(),
    copyPolicy: u8,
    blockSizeShift: u8,
    parentVid: u32,
    lockState: fc.constantFrom(...Object.values(lockState)),
    lockOwner: nodeId,
    participants: fc.array(record({ node: nodeId, state: u32 }), { maxLength: 31 }),
  }).map((s) => ({ ...s, lockOwner: s.lockState === lockState.locked ? s.lockOwner : undefined }));
  fc.assert(
    fc.property(fc.array(state, { maxLength: 3 }), (states) => {
      const bytes = new Uint8Array(vdiStateBytes * states.length);
      for (const [index, s] of states.entries()) encodeVdiState(bytes, vdiStateBytes * index, s);
      assert.deepEqual(decodeVdiStates(bytes), states);
    }),
  );
});

test("answers that cannot be are refused", () => {
  const invalid = { code: "invalid" };
  assert.throws(() => node.decodeNodes(new Uint8Array(80), 2), invalid);
  assert.throws(() => cluster.decodeEpochs(new Uint8Array(100), 0), invalid);
  assert.throws(() => cluster.decodeClusterInfo(new Uint8Array(47)), invalid);
  assert.throws(() => stat.decodeStat(new Uint8Array(119)), invalid);
  assert.throws(() => stat.decodeMdInfo(new Uint8Array(263_688).fill(1)), invalid);
  assert.throws(() => decodeVdiStates(new Uint8Array(vdiStateBytes).fill(1)), invalid);
  assert.throws(() => decodeVdiStates(new Uint8Array(vdiStateBytes + 1)), invalid);
});
