import assert from "node:assert/strict";

/** Says where they differ, without a picture of megabytes. */
export function sameBytes(actual: Buffer, expected: Buffer, message = ""): void {
  assert.equal(actual.length, expected.length, message);
  if (actual.equals(expected)) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert.fail(`${message} byte ${at} is ${actual[at]}, and should be ${expected[at]}`.trimStart());
}
