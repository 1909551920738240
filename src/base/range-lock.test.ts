import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPending } from "./completion.ts";
import { type RangeHold, RangeLock, type RangeLockMode } from "./range-lock.ts";

function held(lock: RangeLock, start: number, end: number, mode?: RangeLockMode): RangeHold {
  const hold = lock.acquire(start, end, mode);
  assert.ok(!isPending(hold), "expected the range to be free");
  return hold;
}

test("ranges that touch do not wait for each other", () => {
  const lock = new RangeLock();
  held(lock, 0, 10);
  held(lock, 10, 20);
  assert.equal(lock.count, 2);
});

test("a range waits for one that it overlaps, and for no other", async () => {
  const lock = new RangeLock();
  const first = held(lock, 0, 10);
  const other = held(lock, 50, 60);
  const waiting = lock.acquire(9, 11);
  assert.ok(isPending(waiting));
  lock.release(first);
  const hold = await waiting;
  assert.equal(hold.start, 9);
  lock.release(hold);
  lock.release(other);
  assert.equal(lock.count, 0);
});

test("shared ranges overlap; an exclusive one waits for all of them", async () => {
  const lock = new RangeLock();
  const readers = [held(lock, 0, 10, "shared"), held(lock, 5, 15, "shared")];
  let granted = false;
  const writer = Promise.resolve(lock.acquire(0, 20)).then((hold) => {
    granted = true;
    return hold;
  });
  lock.release(readers[0] as RangeHold);
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(granted, false);
  lock.release(readers[1] as RangeHold);
  lock.release(await writer);
});

test("a later shared range does not overtake a waiting exclusive one", () => {
  const lock = new RangeLock();
  held(lock, 0, 10, "shared");
  assert.ok(isPending(lock.acquire(0, 10)));
  assert.ok(isPending(lock.acquire(5, 6, "shared")));
  assert.equal(lock.tryAcquire(5, 6, "shared"), undefined);
});

test("trying does not wait, and does not leave anything behind when refused", () => {
  const lock = new RangeLock();
  const hold = lock.tryAcquire(0, 4);
  assert.ok(hold);
  assert.equal(lock.tryAcquire(3, 5), undefined);
  lock.release(hold);
  assert.equal(lock.count, 0);
  assert.ok(lock.tryAcquire(3, 5));
});

test("releasing twice, or what still waits, is a mistake", () => {
  const lock = new RangeLock();
  const hold = held(lock, 0, 4);
  lock.release(hold);
  assert.throws(() => lock.release(hold));
  assert.throws(() => lock.acquire(4, 4));
});

test("random ranges: never two conflicting holders, granted in order of arrival, all granted", async () => {
  const request = fc.record({
    start: fc.nat(20),
    length: fc.integer({ min: 1, max: 8 }),
    mode: fc.constantFrom<RangeLockMode>("exclusive", "shared"),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(request, { maxLength: 40 }), fc.nat(), async (requests, seed) => {
      const lock = new RangeLock();
      const active = new Map<number, RangeHold>();
      const conflicts = (left: number, right: number) => {
        const [a, b] = [requests[left], requests[right]];
        assert.ok(a && b);
        const overlap = a.start < b.start + b.length && b.start < a.start + a.length;
        return overlap && !(a.mode === "shared" && b.mode === "shared");
      };
      const done = new Set<number>();
      const granted = (index: number, hold: RangeHold) => {
        for (const other of active.keys()) assert.ok(!conflicts(index, other));
        for (let earlier = 0; earlier < index; earlier++) {
          if (conflicts(earlier, index)) assert.ok(done.has(earlier));
        }
        active.set(index, hold);
      };
      for (const [index, { start, length, mode }] of requests.entries()) {
        const hold = lock.acquire(start, start + length, mode);
        if (isPending(hold)) void hold.then((value) => granted(index, value));
        else granted(index, hold);
      }
      let random = seed;
      while (done.size < requests.length) {
        await new Promise(setImmediate);
        assert.ok(active.size > 0, "nothing is held, yet something waits");
        random = (random * 1103515245 + 12345) % 2 ** 31;
        const [index, hold] = [...active][random % active.size] as [number, RangeHold];
        active.delete(index);
        done.add(index);
        lock.release(hold);
      }
      assert.equal(lock.count, 0);
    }),
    { numRuns: 60 },
  );
});
