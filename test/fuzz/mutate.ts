import type { SeededRandom } from "../../sim/random.ts";

/** Where number fields have their limits. */
const telling = [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** A copy with one to a few changes of the kinds that break parsers. */
export function mutate(
  bytes: Uint8Array,
  random: SeededRandom,
  donors: readonly Uint8Array[] = [bytes],
): Buffer {
  let changed: Buffer = Buffer.from(bytes);
  const changes = 1 + random.below(random.below(4) === 0 ? 8 : 2);
  for (let count = 0; count < changes; count++) changed = mutateOnce(changed, random, donors);
  return changed;
}

function mutateOnce(bytes: Buffer, random: SeededRandom, donors: readonly Uint8Array[]): Buffer {
  const at = random.below(bytes.length + 1);
  const rest = bytes.length - at;
  switch (random.below(9)) {
    case 0:
    case 1:
      return withByte(bytes, at, (byte) => byte ^ (1 << random.below(8)));
    case 2:
      return withByte(bytes, at, () => random.below(256));
    case 3:
    case 4:
      return withNumber(bytes, at, random);
    case 5: // cut short
      return Buffer.from(bytes.subarray(0, at));
    case 6: // a range is missing
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.below(rest + 1))]);
    case 7: // a range of something else stands in between
      return Buffer.concat([bytes.subarray(0, at), piece(random, donors), bytes.subarray(at)]);
    default: {
      // A range is replaced by something else.
      const other = piece(random, donors).subarray(0, rest);
      return Buffer.concat([bytes.subarray(0, at), other, bytes.subarray(at + other.length)]);
    }
  }
}

/** Some bytes of a donor, or random ones, or the same one many times. */
function piece(random: SeededRandom, donors: readonly Uint8Array[]): Buffer {
  const length = 1 + random.below(random.below(3) === 0 ? 600 : 24);
  const kind = random.below(4);
  if (kind === 0) return Buffer.from(random.bytes(length));
  if (kind === 1) return Buffer.alloc(length, random.below(2) === 0 ? 0 : 0xff);
  const donor = donors[random.below(donors.length)] ?? new Uint8Array(1);
  const from = random.below(donor.length + 1);
  return Buffer.from(donor.subarray(from, from + length));
}

function withByte(bytes: Buffer, at: number, change: (byte: number) => number): Buffer {
  const copy = Buffer.from(bytes);
  if (at < copy.length) copy[at] = change(copy[at] as number);
  return copy;
}

/** Writes a telling number, or one near what was there, where a field may be. */
function withNumber(bytes: Buffer, at: number, random: SeededRandom): Buffer {
  const copy = Buffer.from(bytes);
  const width = [1, 2, 4, 4][random.below(4)] as number;
  const start = at - (at % width);
  if (start + width > copy.length) return copy;
  const big = random.below(2) === 0;
  const before = big ? copy.readUIntBE(start, width) : copy.readUIntLE(start, width);
  const near = before + random.below(5) - 2;
  const value = random.below(2) === 0 ? near : (telling[random.below(telling.length)] as number);
  const kept = ((value % 2 ** (8 * width)) + 2 ** (8 * width)) % 2 ** (8 * width);
  if (big) copy.writeUIntBE(kept, start, width);
  else copy.writeUIntLE(kept, start, width);
  return copy;
}
