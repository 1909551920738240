import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BufferPool } from "./buffer-pool.ts";
import { ReplyBuffer } from "./reply-buffer.ts";

test("replies come out in order, whatever is cancelled, detached, appended and sent", () => {
  const call = fc.record({
    kind: fc.constantFrom("keep", "keep", "cancel", "detach", "append", "take", "send"),
    size: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.constantFrom(16_384, 16_385, 300_000)),
  });
  fc.assert(
    fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
      const buffer = new ReplyBuffer(new BufferPool());
      const expected: number[][] = [];
      const detached: Uint8Array[] = [];
      const taken: Uint8Array[] = [];
      const expectedBytes = () => expected.reduce((sum, [, size = 0]) => sum + size, 0);
      for (const [index, { kind, size }] of calls.entries()) {
        const mark = (index % 255) + 1;
        if (kind === "take") {
          taken.push(...buffer.takeAll());
          assert.equal(buffer.byteLength, 0);
        } else if (kind === "send") {
          taken.push(...buffer.takeAll());
          // Its memory may hold other replies from now on.
          for (const [at, chunk] of taken.entries()) taken[at] = chunk.slice();
          buffer.reuse(0);
        } else if (kind === "append") {
          const late = detached.pop();
          if (late === undefined) continue;
          late.fill(mark);
          buffer.append(late);
          expected.push([mark, late.length]);
        } else {
          buffer.reserve(size);
          buffer.bytes.fill(mark, buffer.offset, buffer.offset + size);
          if (kind === "cancel") buffer.cancel();
          else if (kind === "detach") detached.push(buffer.detach());
          else expected.push([mark, size]);
        }
      }
      for (const late of detached) late.fill(0xee); // belongs to nobody else
      taken.push(...buffer.takeAll());
      assert.equal(
        taken.reduce((sum, chunk) => sum + chunk.length, 0),
        expectedBytes(),
      );
      const all = Buffer.concat(taken);
      let at = 0;
      for (const [mark = 0, size = 0] of expected) {
        assert.ok(all.subarray(at, at + size).every((byte) => byte === mark));
        at += size;
      }
    }),
    { numRuns: 150 },
  );
});

test("small replies that follow each other are one chunk", () => {
  const buffer = new ReplyBuffer(new BufferPool());
  for (let count = 0; count < 31; count++) buffer.reserve(4112);
  assert.equal(buffer.byteLength, 31 * 4112);
  assert.equal(buffer.takeAll().length, 1);
});

test("what was sent is not written to again", () => {
  const buffer = new ReplyBuffer(new BufferPool());
  buffer.reserve(16);
  buffer.bytes.fill(1, buffer.offset, buffer.offset + 16);
  const [first] = buffer.takeAll();
  buffer.reserve(16);
  buffer.bytes.fill(9, buffer.offset, buffer.offset + 16);
  assert.deepEqual(first, new Uint8Array(16).fill(1));
});
