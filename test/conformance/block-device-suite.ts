import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { KelpieError } from "../../src/base/errors.ts";
import type { BlockDevice, Extent } from "../../src/block/block-device.ts";

export interface DeviceUnderTest {
  device: BlockDevice;
  close?(): Promise<void>;
}

export interface BlockDeviceSuiteOptions {
  /** Random histories per run; fewer for slow devices. 25 by default. */
  historiesMax?: number;
}

const mebibyte = 2 ** 20;

/**
 * What every writable BlockDevice does. `make` gives a new, empty disk of that size; the suite
 * closes it. Ranges outside of the disk belong to the guard and are not tried here.
 */
export function blockDeviceSuite(
  name: string,
  make: (sizeBytes: number) => Promise<DeviceUnderTest>,
  options: BlockDeviceSuiteOptions = {},
): void {
  const withDevice =
    (sizeBytes: number, body: (device: BlockDevice) => Promise<void>) => async () => {
      const made = await make(sizeBytes);
      try {
        await body(made.device);
      } finally {
        await made.close?.();
      }
    };
  describe(`${name} as a block device`, () => {
    test("is empty and has its size at first", withDevice(3 * mebibyte, startsEmpty));
    test("reads back what was written, at any byte range", withDevice(4 * mebibyte, anyRange));
    test("writes a list of chunks as one piece", withDevice(mebibyte, chunkLists));
    test("reads and writes its last bytes", withDevice(mebibyte + 512, lastBytes));
    test("zero makes exactly its range read as zeros", withDevice(4 * mebibyte, zeroing));
    test("zero with keepAllocated leaves no hole", withDevice(4 * mebibyte, keepsAllocated));
    test(
      "trim leaves old data or zeros, and nothing else changes",
      withDevice(4 * mebibyte, trimming),
    );
    test("a write after a trim or zero is not lost", withDevice(mebibyte, writeAfterTrim));
    test("extents are joined, bounded and honest", withDevice(8 * mebibyte, honestExtents));
    test("a walk over the extents reaches the end", withDevice(64 * mebibyte, extentWalk));
    test("extents of a changed base nobody knows are not found", withDevice(mebibyte, unknownBase));
    test("overlapping writes mix by sector at most", withDevice(mebibyte, overlapping));
    test("flush and fua complete, alone and among writes", withDevice(mebibyte, flushing));
    test("a large disk works at both ends", withDevice(8 * 2 ** 40, largeDisk));
    test("random histories agree with a plain array", async () => {
      await randomHistories(make, options.historiesMax ?? 25);
    });
  });
}

async function startsEmpty(device: BlockDevice): Promise<void> {
  assert.equal(device.sizeBytes, 3 * mebibyte);
  assert.equal(device.readOnly, false);
  assert.ok(isZero(await read(device, 0, device.sizeBytes)));
}

async function anyRange(device: BlockDevice): Promise<void> {
  const ranges = [
    [0, 512],
    [512, 4096],
    [4097, 1],
    [65_535, 2],
    [100_001, 70_003],
    [mebibyte - 1, 2],
    [2 * mebibyte + 3, mebibyte],
  ] as const;
  const expected = new Uint8Array(device.sizeBytes);
  for (const [index, [offset, length]] of ranges.entries()) {
    const bytes = pattern(length, index + 1);
    await device.write([bytes], offset);
    expected.set(bytes, offset);
    assert.deepEqual(await read(device, offset, length), bytes);
  }
  assertSame(await read(device, 0, device.sizeBytes), expected);
  assertSame(await read(device, 4095, 99_999), expected.subarray(4095, 4095 + 99_999));
}

async function chunkLists(device: BlockDevice): Promise<void> {
  const bytes = pattern(200_000, 7);
  const cuts = [0, 1, 28, 4096, 4097, 65_536, 70_000, 131_072, 200_000];
  const chunks = cuts.slice(1).map((end, index) => bytes.slice(cuts[index], end));
  await device.write(chunks, 12_345);
  assertSame(await read(device, 12_345, bytes.length), bytes);
  assert.ok(isZero(await read(device, 0, 12_345)));
}

async function lastBytes(device: BlockDevice): Promise<void> {
  const bytes = pattern(700, 9);
  await device.write([bytes], device.sizeBytes - 700);
  assertSame(await read(device, device.sizeBytes - 700, 700), bytes);
  await device.zero(device.sizeBytes - 5, 5);
  assert.ok(isZero(await read(device, device.sizeBytes - 5, 5)));
  await device.trim(device.sizeBytes - 512, 512);
  assertSame(await read(device, device.sizeBytes - 700, 188), bytes.subarray(0, 188));
}

async function zeroing(device: BlockDevice): Promise<void> {
  const expected = pattern(device.sizeBytes, 3);
  await device.write([expected.slice()], 0);
  const ranges = [
    [1, 1],
    [511, 514],
    [4096, 4096],
    [70_001, 200_000],
    [mebibyte, 2 * mebibyte],
  ] as const;
  for (const [offset, length] of ranges) {
    await device.zero(offset, length);
    expected.fill(0, offset, offset + length);
    assertSame(await read(device, 0, device.sizeBytes), expected);
  }
  // A fast zero may be refused, but then changes nothing.
  try {
    await device.zero(3 * mebibyte, mebibyte, { fast: true });
    expected.fill(0, 3 * mebibyte);
  } catch (error) {
    assert.equal(error instanceof KelpieError && error.code, "unsupported");
  }
  assertSame(await read(device, 0, device.sizeBytes), expected);
}

async function keepsAllocated(device: BlockDevice): Promise<void> {
  await device.write([pattern(mebibyte, 1)], mebibyte);
  await device.zero(mebibyte, mebibyte, { keepAllocated: true });
  await device.zero(3 * mebibyte + 512, 4096, { keepAllocated: true, fua: true });
  assert.ok(isZero(await read(device, 0, device.sizeBytes)));
  for (const [offset, length] of [
    [mebibyte, mebibyte],
    [3 * mebibyte + 512, 4096],
  ] as const) {
    for (const extent of await extentsOf(device, offset, length)) assert.notEqual(extent.value, 1);
  }
}

async function trimming(device: BlockDevice): Promise<void> {
  const before = pattern(device.sizeBytes, 5).map((byte) => byte | 1); // no zeros of its own
  await device.write([before.slice()], 0);
  await device.trim(mebibyte, mebibyte);
  await device.trim(3 * mebibyte + 100, 1000, { fua: true });
  const after = await read(device, 0, device.sizeBytes);
  for (let at = 0; at < after.length; at++) {
    if (after[at] === before[at]) continue;
    const trimmed =
      (at >= mebibyte && at < 2 * mebibyte) ||
      (at >= 3 * mebibyte + 100 && at < 3 * mebibyte + 1100);
    assert.ok(trimmed && after[at] === 0, `byte ${at} changed to ${after[at]}`);
  }
  assertSame(await read(device, 0, device.sizeBytes), after);
}

async function writeAfterTrim(device: BlockDevice): Promise<void> {
  const bytes = pattern(300_000, 2);
  await device.write([bytes.slice()], 0);
  await device.trim(0, mebibyte);
  await device.write([bytes.slice()], 1000);
  await device.zero(0, mebibyte);
  await device.write([bytes.slice()], 2000);
  assertSame(await read(device, 2000, bytes.length), bytes);
  assert.ok(isZero(await read(device, 0, 2000)));
}

async function honestExtents(device: BlockDevice): Promise<void> {
  await device.write([pattern(mebibyte, 1)], 2 * mebibyte);
  await device.write([pattern(mebibyte, 2)], 5 * mebibyte);
  const queries = [
    [0, 8 * mebibyte],
    [2 * mebibyte + 7, 10],
    [mebibyte + 513, 2 * mebibyte],
    [7 * mebibyte, mebibyte],
  ] as const;
  for (const [offset, length] of queries) {
    for (const extentsMax of [1, 2, 100]) {
      for (const kind of ["allocation", "depth"] as const) {
        const extents = await device.extents({ kind, offset, length, extentsMax });
        checkShape(extents, length, extentsMax);
        let position = offset;
        for (const { lengthBytes, value } of extents) {
          if (kind === "allocation") assert.ok([0, 1, 2].includes(value));
          const zeros = isZero(await read(device, position, lengthBytes));
          if (kind === "allocation" && value !== 0) assert.ok(zeros, "a hole with data in it");
          position += lengthBytes;
        }
      }
    }
  }
  const written = await extentsOf(device, 2 * mebibyte, mebibyte);
  assert.deepEqual(written, [{ lengthBytes: mebibyte, value: 0 }]);
  const [first] = await device.extents({
    kind: "depth",
    offset: 2 * mebibyte,
    length: mebibyte,
    extentsMax: 1,
  });
  assert.equal(first?.value, 1);
  const untouched = await extentsOf(device, 3 * mebibyte, mebibyte);
  assert.deepEqual(untouched, [{ lengthBytes: mebibyte, value: 1 }]);
}

async function extentWalk(device: BlockDevice): Promise<void> {
  for (let index = 0; index < 32; index++) {
    await device.write([pattern(4096, index + 1)], index * 2 * mebibyte);
  }
  let data = 0;
  for (const extent of await extentsOf(device, 0, device.sizeBytes, 3)) {
    if (extent.value === 0) data += extent.lengthBytes;
  }
  assert.ok(data >= 32 * 4096 && data <= 32 * mebibyte, `${data} bytes of data`);
}

async function unknownBase(device: BlockDevice): Promise<void> {
  assert.ok(Array.isArray(await device.changeBases()));
  const query = { kind: "changed", since: "no such point", offset: 0, length: 512 } as const;
  await assert.rejects(
    device.extents({ ...query, extentsMax: 1 }),
    (error) => error instanceof KelpieError && error.code === "not-found",
  );
}

async function overlapping(device: BlockDevice): Promise<void> {
  const writes = Array.from({ length: 16 }, (_, index) => {
    const offset = (index % 5) * 4096;
    return device.write([new Uint8Array(16_384).fill(index + 1)], offset);
  });
  await Promise.all(writes);
  const after = await read(device, 0, 32_768);
  for (let sector = 0; sector < 64; sector++) {
    const bytes = after.subarray(sector * 512, sector * 512 + 512);
    assert.ok(
      bytes.every((byte) => byte === bytes[0]),
      `sector ${sector} is torn`,
    );
  }
  assert.ok(!isZero(after.subarray(0, 16_384)));
}

async function flushing(device: BlockDevice): Promise<void> {
  await device.flush();
  const pending = [];
  for (let index = 0; index < 20; index++) {
    const bytes = pattern(4096, index + 1);
    pending.push(device.write([bytes], index * 4096, { fua: index % 3 === 0 }));
    if (index % 4 === 0) pending.push(device.flush());
  }
  await Promise.all(pending);
  await device.flush();
  await device.cache(0, mebibyte);
  for (let index = 0; index < 20; index++) {
    assertSame(await read(device, index * 4096, 4096), pattern(4096, index + 1));
  }
}

async function largeDisk(device: BlockDevice): Promise<void> {
  const size = device.sizeBytes;
  const bytes = pattern(4096, 1);
  await device.write([bytes.slice()], size - 4096);
  await device.write([bytes.slice()], 2 ** 32 - 1000);
  assertSame(await read(device, size - 4096, 4096), bytes);
  assertSame(await read(device, 2 ** 32 - 1000, 4096), bytes);
  await device.trim(0, size);
  await device.zero(0, size);
  await device.flush();
  assert.ok(isZero(await read(device, size - 4096, 4096)));
  const extents = await extentsOf(device, 0, size);
  assert.equal(sumOf(extents), size);
}

type Step =
  | { kind: "write" | "zero" | "trim" | "keep"; offset: number; length: number; seed: number }
  | { kind: "read"; offset: number; length: number; seed: number };

async function randomHistories(
  make: (sizeBytes: number) => Promise<DeviceUnderTest>,
  runs: number,
): Promise<void> {
  const size = 256 * 1024;
  const step: fc.Arbitrary<Step> = fc
    .record({
      kind: fc.constantFrom("write", "write", "zero", "keep", "read"),
      offset: fc.nat(size - 1),
      length: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: size })),
      aligned: fc.boolean(),
      seed: fc.integer({ min: 1, max: 255 }),
    })
    .map(({ kind, offset, length, aligned, seed }) => {
      const start = aligned ? offset - (offset % 512) : offset;
      return { kind, offset: start, length: Math.min(length, size - start), seed } as Step;
    });
  const property = fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
    const { device, close } = await make(size);
    try {
      const expected = new Uint8Array(size);
      for (const { kind, offset, length, seed } of steps) {
        if (kind === "read") {
          assertSame(
            await read(device, offset, length),
            expected.subarray(offset, offset + length),
          );
        } else if (kind === "write") {
          const bytes = pattern(length, seed);
          const cut = seed % length;
          expected.set(bytes, offset);
          await device.write([bytes.subarray(0, cut), bytes.subarray(cut)], offset);
        } else {
          expected.fill(0, offset, offset + length);
          await device.zero(offset, length, { keepAllocated: kind === "keep" });
        }
      }
      assertSame(await read(device, 0, size), expected);
    } finally {
      await close?.();
    }
  });
  await fc.assert(property, { numRuns: runs });
}

async function read(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xee);
  await device.read(target, offset);
  return target;
}

/** Walks the range to its end, checking each answer's shape, and joins the answers. */
async function extentsOf(
  device: BlockDevice,
  offset: number,
  length: number,
  extentsMax = 64,
): Promise<Extent[]> {
  const all: Extent[] = [];
  const end = offset + length;
  for (let position = offset; position < end; ) {
    const left = end - position;
    const some = await device.extents({
      kind: "allocation",
      offset: position,
      length: left,
      extentsMax,
    });
    checkShape(some, left, extentsMax);
    for (const extent of some) {
      const last = all.at(-1);
      if (last !== undefined && last.value === extent.value) last.lengthBytes += extent.lengthBytes;
      else all.push({ ...extent });
    }
    position += sumOf(some);
  }
  return all;
}

function checkShape(extents: readonly Extent[], length: number, extentsMax: number): void {
  assert.ok(extents.length >= 1 && extents.length <= extentsMax);
  assert.ok(sumOf(extents) <= length);
  for (const [index, extent] of extents.entries()) {
    assert.ok(Number.isSafeInteger(extent.lengthBytes) && extent.lengthBytes > 0);
    assert.notEqual(extent.value, extents[index - 1]?.value, "neighbours are not joined");
  }
}

function sumOf(extents: readonly Extent[]): number {
  return extents.reduce((sum, extent) => sum + extent.lengthBytes, 0);
}

/** Bytes that differ by seed and position, so that what is misplaced shows. */
function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed * 2654435761;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** Compares in native code: disks are large, and a callback for each byte takes seconds. */
export function isZero(bytes: Uint8Array): boolean {
  for (let start = 0; start < bytes.length; start += zeros.length) {
    const part = bytes.subarray(start, start + zeros.length);
    if (Buffer.compare(part, zeros.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}

const zeros = Buffer.alloc(2 ** 16);

/** As deepEqual, but in no time, and says where. */
function assertSame(actual: Uint8Array, expected: Uint8Array): void {
  assert.equal(actual.length, expected.length);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert.fail(`byte ${at} is ${actual[at]}, expected ${expected[at]}`);
}
