import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import { type CatalogRecord, decodeCatalogRecord, encodeCatalogRecord } from "./catalog-record.ts";
import { encodeJsonFrame } from "./frame.ts";

/** Objects as decoders make them. */
const plain = { noNullPrototype: true };
const nat = fc.maxSafeNat();
const change = fc.oneof(
  fc.record({ type: fc.constant("point" as const), id: nat, parent: nat, sizeBytes: nat }, plain),
  fc.record({ type: fc.constant("assign" as const), log: nat, from: nat, point: nat }, plain),
  fc.record({ type: fc.constant("resize" as const), id: nat, sizeBytes: nat }, plain),
  fc.record({ type: fc.constant("delete" as const), id: nat }, plain),
);
const recordArbitrary: fc.Arbitrary<CatalogRecord> = fc.record(
  {
    number: nat,
    nonce: fc.string(),
    timeMs: nat,
    changes: fc.array(change),
    notes: fc.array(fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)) as unknown)),
  },
  plain,
);
const example: CatalogRecord = {
  number: 7,
  nonce: "00",
  timeMs: 1,
  changes: [{ type: "point", id: 1, parent: 0, sizeBytes: 512 }],
  notes: [{ type: "create", name: "a" }],
};

function framed(value: unknown, version = 1): Buffer {
  return Buffer.concat(encodeJsonFrame({ type: 2, version, what: "" }, value));
}

test("a record gives back what was put in", () => {
  fc.assert(
    fc.property(recordArbitrary, (record) => {
      const bytes = Buffer.concat(encodeCatalogRecord(record));
      assert.deepEqual(decodeCatalogRecord(bytes, "x"), record);
    }),
  );
});

test("a record is a frame of type 2 around this JSON", () => {
  assert.deepEqual(Buffer.concat(encodeCatalogRecord(example)), framed(example));
});

test("a damaged or truncated record is refused", () => {
  const bytes = Buffer.concat(encodeCatalogRecord(example));
  checkDamage(bytes, (damaged) => decodeCatalogRecord(damaged, "x"));
});

test("a change, or a part of one, that is not known is unsupported", () => {
  const point = example.changes[0];
  for (const changes of [
    [{ type: "merge", id: 1 }],
    [{ ...point, encrypted: true }],
    [{ type: "point", id: -1, parent: 0, sizeBytes: 512 }],
    [{ type: "point", id: 1.5, parent: 0, sizeBytes: 512 }],
    [{ type: "delete" }],
    ["delete"],
  ]) {
    assert.throws(() => decodeCatalogRecord(framed({ ...example, changes }), "catalog/7"), {
      code: "unsupported",
      message: /^catalog\/7 has a change/,
    });
  }
  assert.throws(() => decodeCatalogRecord(framed({ ...example, lease: 1 }), "x"), {
    code: "unsupported",
  });
});

test("a record of another version is unsupported", () => {
  assert.throws(() => decodeCatalogRecord(framed(example, 2), "x"), { code: "unsupported" });
});
