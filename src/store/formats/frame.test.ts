import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import { decodeFrame, decodeJsonFrame, encodeFrame, encodeJsonFrame } from "./frame.ts";

const kind = { type: 2, version: 1, what: "catalog record" };

function framed(payload: Uint8Array, as = kind): Buffer {
  return Buffer.concat(encodeFrame(as, payload));
}

test("a frame has the bytes that the table says", () => {
  const golden = "4b4c5046020001000300000016b2deca616263";
  assert.equal(framed(Buffer.from("abc")).toString("hex"), golden);
});

test("a frame gives back its payload, whatever follows it", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), fc.uint8Array(), (payload, behind) => {
      const bytes = Buffer.concat([framed(payload), behind]);
      assert.deepEqual(Buffer.from(decodeFrame(kind, bytes, "x")), Buffer.from(payload));
    }),
  );
});

test("a JSON frame gives back what was put in", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const bytes = Buffer.concat(encodeJsonFrame(kind, value));
      assert.deepEqual(decodeJsonFrame(kind, bytes, "x"), JSON.parse(JSON.stringify(value)));
    }),
  );
});

test("a damaged or truncated frame is refused", () => {
  checkDamage(framed(Buffer.from("some payload of no meaning")), (bytes) =>
    Buffer.from(decodeFrame(kind, bytes, "x")),
  );
  checkDamage(Buffer.concat(encodeJsonFrame(kind, { a: [1, 2, { b: "c" }] })), (bytes) =>
    decodeJsonFrame(kind, bytes, "x"),
  );
});

test("a whole frame of another type is corrupt, one of another version unsupported", () => {
  const payload = Buffer.from("abc");
  const other = framed(payload, { ...kind, type: 3 });
  assert.throws(() => decodeFrame(kind, other, "catalog/5"), { code: "corrupt" });
  const newer = framed(payload, { ...kind, version: 2 });
  assert.throws(() => decodeFrame(kind, newer, "catalog/5"), {
    code: "unsupported",
    message: "catalog/5 is a catalog record of version 2; this Kelpie reads 1",
  });
});

test("a whole frame around something that is not JSON is corrupt", () => {
  assert.throws(() => decodeJsonFrame(kind, framed(Buffer.from("{")), "x"), { code: "corrupt" });
});

test("a length of 4 GiB costs nothing", () => {
  const bytes = framed(Buffer.from("abc"));
  bytes.writeUInt32LE(0xffffffff, 8);
  assert.throws(() => decodeFrame(kind, bytes, "x"), { code: "corrupt", message: /cut short/ });
});
