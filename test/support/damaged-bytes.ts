import assert from "node:assert/strict";
import fc from "fast-check";
import { isKelpieError } from "../../src/base/errors.ts";

/**
 * Holds a decoder to its promise about bytes that came back different: it refuses them with "corrupt" or
 * "unsupported", or with undefined, or what it reads is what was written. Nothing else, ever.
 */
export function checkDamage(
  written: Uint8Array,
  decode: (bytes: Buffer) => unknown,
  runs = 300,
): void {
  const original = decode(Buffer.from(written));
  assert.notEqual(original, undefined, "what is whole is read");
  for (let length = 0; length < written.length; length += length < 600 ? 1 : 97) {
    checkOne(Buffer.from(written.subarray(0, length)), decode, original);
  }
  const place = fc.nat(written.length - 1);
  const change = fc.tuple(place, fc.integer({ min: 1, max: 255 }));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
      const bytes = Buffer.from(written);
      for (const [at, mask] of changes) bytes[at] = (bytes[at] as number) ^ mask;
      checkOne(bytes, decode, original);
    }),
    { numRuns: runs },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 700 }), (bytes) => {
      checkOne(Buffer.from(bytes), decode, original);
    }),
    { numRuns: 50 },
  );
}

function checkOne(bytes: Buffer, decode: (bytes: Buffer) => unknown, original: unknown): void {
  let found: unknown;
  try {
    found = decode(bytes);
  } catch (error) {
    assert.ok(
      isKelpieError(error, "corrupt") || isKelpieError(error, "unsupported"),
      `threw ${String(error)}`,
    );
    return;
  }
  if (found !== undefined) assert.deepEqual(found, original);
}
