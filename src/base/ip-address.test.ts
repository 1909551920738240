import assert from "node:assert/strict";
import * as net from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { parseIpAddress, sharesPrefix } from "./ip-address.ts";

const hexOf = (text: string) => {
  const bytes = parseIpAddress(text);
  return bytes === undefined ? undefined : Buffer.from(bytes).toString("hex");
};

test("addresses are 16 bytes, those of IPv4 mapped", () => {
  assert.equal(hexOf("10.0.0.255"), "00000000000000000000ffff0a0000ff");
  assert.equal(hexOf("::ffff:10.0.0.255"), hexOf("10.0.0.255"));
  assert.equal(hexOf("::"), "0".repeat(32));
  assert.equal(hexOf("::1"), `${"0".repeat(31)}1`);
  assert.equal(hexOf("fe80::1:2"), "fe800000000000000000000000010002");
  assert.equal(hexOf("1:2:3:4:5:6:7:8"), "00010002000300040005000600070008");
  assert.equal(hexOf("1::"), `0001${"0".repeat(28)}`);
});

test("everything else is no address", () => {
  for (const text of [
    "",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "256.0.0.1",
    "1.2.3",
    "1.2.3.4.5",
    "::1.2.3.4:5",
    "fe80::1%eth0",
    "unix",
    "localhost",
    "12345::",
  ]) {
    assert.equal(hexOf(text), undefined, text);
  }
});

test("what is taken for an address is one for the system too", () => {
  const part = fc.constantFrom("1", "ffff", "12345", "", "1.2.3.4", "0", "g", "999");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 9 }), (parts) => {
      const text = parts.join(":");
      assert.equal(parseIpAddress(text) !== undefined, net.isIP(text) !== 0, text);
    }),
    { numRuns: 2000 },
  );
});

test("prefixes are compared by bits", () => {
  const one = parseIpAddress("10.1.2.3") as Uint8Array;
  const other = parseIpAddress("10.1.3.3") as Uint8Array;
  assert.ok(sharesPrefix(one, other, 96 + 23));
  assert.ok(!sharesPrefix(one, other, 96 + 24));
  assert.ok(sharesPrefix(one, one, 128));
});
