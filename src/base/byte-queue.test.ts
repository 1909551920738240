import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteQueue } from "./byte-queue.ts";
import { joinBytes } from "./bytes.ts";

test("any mix of calls yields the bytes in order", () => {
  const call = fc.record({
    kind: fc.constantFrom("push", "gather", "take", "skip", "copy"),
    count: fc.nat(20),
  });
  fc.assert(
    fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
      const queue = new ByteQueue();
      let written = 0;
      let taken = 0;
      const expectNext = (bytes: Uint8Array) => {
        for (const byte of bytes) assert.equal(byte, taken++ & 0xff);
      };
      for (const { kind, count } of calls) {
        if (kind === "push") {
          queue.push(Uint8Array.from({ length: count }, () => written++ & 0xff));
        } else if (kind === "gather") {
          const there = queue.gather(count);
          assert.equal(there, written - taken >= count);
          for (let at = 0; there && at < count; at++) {
            assert.equal(queue.head[queue.headOffset + at], (taken + at) & 0xff);
          }
        } else if (kind === "copy") {
          const target = new Uint8Array(count);
          const copied = queue.copyInto(target);
          assert.equal(copied, Math.min(count, written - taken));
          expectNext(target.subarray(0, copied));
        } else if (count <= written - taken) {
          if (kind === "take") expectNext(joinBytes(queue.take(count)));
          else {
            queue.skip(count);
            taken += count;
          }
        }
        assert.equal(queue.byteLength, written - taken);
      }
    }),
    { numRuns: 500 },
  );
});

test("taking gives views of the chunks, not copies", () => {
  const queue = new ByteQueue();
  const first = new Uint8Array([1, 2, 3]);
  const second = new Uint8Array([4, 5, 6]);
  queue.push(first);
  queue.push(second);
  queue.skip(1);
  const slices = queue.take(4);
  assert.equal(slices.length, 2);
  assert.equal(slices[0]?.buffer, first.buffer);
  assert.equal(slices[1]?.buffer, second.buffer);
});

test("a header inside one chunk is parsed where it lies", () => {
  const queue = new ByteQueue();
  const chunk = new Uint8Array([1, 2, 3, 4]);
  queue.push(chunk);
  assert.ok(queue.gather(4));
  assert.equal(queue.head, chunk);
});

test("what is used up is not kept alive", () => {
  const queue = new ByteQueue();
  queue.push(new Uint8Array(10));
  queue.push(new Uint8Array(10));
  queue.skip(20);
  assert.equal(queue.head.length, 0);
});

test("taking more than there is fails", () => {
  const queue = new ByteQueue();
  queue.push(new Uint8Array(2));
  assert.throws(() => queue.take(3));
  assert.throws(() => queue.skip(3));
});
