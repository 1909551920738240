import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkDamage } from "../../../test/support/damaged-bytes.ts";
import { decodeIdentity, encodeIdentity, formatVersion, type Identity } from "./identity.ts";

const example: Identity = {
  id: "000102030405060708090a0b0c0d0e0f",
  format: formatVersion,
  createdMs: 1_767_225_600_000,
  incompatible: [],
  readCompatible: [],
  compatible: [],
};

function encoded(changes: Partial<Identity>): Buffer {
  return Buffer.concat(encodeIdentity({ ...example, ...changes }));
}

test("an identity gives back what was put in, whatever features may be ignored", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.array(fc.string()), (createdMs, compatible) => {
      const bytes = encoded({ createdMs, compatible });
      assert.deepEqual(decodeIdentity(bytes, "store"), { ...example, createdMs, compatible });
    }),
  );
});

test("a damaged or truncated identity is refused", () => {
  checkDamage(encoded({}), (bytes) => decodeIdentity(bytes, "store"));
});

test("a newer format, or a feature that is not known, is unsupported and named", () => {
  const refused = (changes: Partial<Identity>, message: RegExp) => {
    assert.throws(() => decodeIdentity(encoded(changes), "store"), {
      code: "unsupported",
      message,
    });
  };
  refused({ format: formatVersion + 1 }, /newer Kelpie \(format 2\)/);
  refused({ incompatible: ["encryption"] }, /features: encryption/);
  refused({ readCompatible: ["quotas"] }, /features: quotas/);
});

test("an identity without an id is corrupt", () => {
  for (const id of ["", "00", "zz0102030405060708090a0b0c0d0e0f"]) {
    assert.throws(() => decodeIdentity(encoded({ id }), "store"), { code: "corrupt" });
  }
});
