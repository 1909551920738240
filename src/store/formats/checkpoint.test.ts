import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import { assertSound, type Checkpoint, decodeCheckpoint, encodeCheckpoint } from "./checkpoint.ts";
import { encodeJsonFrame } from "./frame.ts";

/** Objects as decoders make them. */
const plain = { noNullPrototype: true };
const nat = fc.maxSafeNat();
const exclusive = fc.oneof(nat, fc.constant(-1));
const checkpointArbitrary: fc.Arbitrary<Checkpoint> = fc.record(
  {
    number: nat,
    records: nat,
    timeMs: nat,
    nextId: nat,
    nextSegmentId: nat,
    nextMap: nat,
    points: fc.array(fc.tuple(nat, nat, nat, nat, nat, nat, exclusive)),
    segments: fc.array(fc.tuple(nat, nat, nat, nat, nat, nat, nat, nat, nat, nat)),
    logs: fc.array(fc.tuple(nat, nat, nat, nat, nat)),
    maps: fc.array(fc.tuple(nat, nat, nat)),
    registry: fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)) as unknown),
  },
  plain,
);
const example: Checkpoint = {
  number: 3,
  records: 9,
  timeMs: 1,
  nextId: 4,
  nextSegmentId: 5,
  nextMap: 6,
  points: [[1, 0, 512, 0, 2097153, 4, -1]],
  segments: [[2, 3, 0, 1, 10, 4, 90, 1, 46080, 4]],
  logs: [[3, 1, 0, 90, 12345]],
  maps: [[1, 0, 300]],
  registry: { working: [] },
};

test("a checkpoint gives back what was put in", () => {
  fc.assert(
    fc.property(checkpointArbitrary, (checkpoint) => {
      const bytes = Buffer.concat(encodeCheckpoint(checkpoint));
      assert.deepEqual(decodeCheckpoint(bytes, "x"), checkpoint);
    }),
  );
});

test("a damaged or truncated checkpoint is refused", () => {
  const bytes = Buffer.concat(encodeCheckpoint(example));
  checkDamage(bytes, (damaged) => decodeCheckpoint(damaged, "x"));
});

test("a whole checkpoint with rows of another width is corrupt", () => {
  const kind = { type: 3, version: 1, what: "" };
  for (const change of [
    { points: [[1, 2]] },
    { logs: [[1, 2, 3, 4, "5"]] },
    { maps: {} },
    { logs: [[1, 2, 3, 4, 0.5]] },
  ]) {
    const bytes = Buffer.concat(encodeJsonFrame(kind, { ...example, ...change }));
    assert.throws(() => decodeCheckpoint(bytes, "checkpoints/3"), {
      code: "corrupt",
      message: /^checkpoints\/3 is not valid/,
    });
  }
});

test("a checkpoint of another version is unsupported", () => {
  const bytes = Buffer.concat(encodeJsonFrame({ type: 3, version: 2, what: "" }, example));
  assert.throws(() => decodeCheckpoint(bytes, "x"), { code: "unsupported" });
});

test("a checkpoint that contradicts itself is corrupt", () => {
  assertSound(example, "x");
  const twice = <Row>(rows: Row[]) => [...rows, ...rows];
  const { points, segments, logs, maps } = example;
  for (const change of [
    { points: twice(points) },
    { segments: twice(segments) },
    { segments: [...segments, [3, ...(segments[0] as number[]).slice(1)]] },
    { logs: twice(logs) },
    { maps: twice(maps) },
    { nextId: 1 },
    { nextId: 2 ** 53 - 1 },
    { nextSegmentId: 2 },
    { nextSegmentId: 2 ** 32 + 1 },
    { nextMap: 1 },
    { nextMap: 2 ** 53 - 1 },
  ]) {
    const changed = { ...example, ...change } as Checkpoint;
    assert.throws(() => assertSound(changed, "checkpoints/3"), { code: "corrupt" });
  }
});
