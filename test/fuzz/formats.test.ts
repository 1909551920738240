import assert from "node:assert/strict";
import { isKelpieError } from "../../src/base/errors.ts";
import { countAllocations } from "./allocations.ts";
import { forge } from "./forge.ts";
import { type FormatCase, formatCases } from "./format-cases.ts";
import { fuzz } from "./fuzz.ts";
import { mutate } from "./mutate.ts";

for (const [name, format] of Object.entries(formatCases)) {
  fuzz(`${name} with changes and a right checksum`, { runs: 1000 }, async (random, tally) => {
    const written = format.example(random);
    const bytes = forge(written, random, format.mend);
    const { result, largestBytes } = await countAllocations(() => refusedOr(format, bytes));
    tally(result === undefined ? "refused" : "read");
    // A map's leaf is put into the words of its chunk, whatever its length.
    const allowedBytes = 2 * bytes.length + 2 ** 14;
    assert.ok(largestBytes <= allowedBytes, `${largestBytes} bytes for ${bytes.length}`);
    if (result === undefined) return;
    const again = Buffer.from(format.encode(result as never));
    assert.deepEqual(format.decode(again), result, "what is read can be written and read again");
  });

  fuzz(`${name} with changes and its old checksum`, { runs: 1000 }, (random, tally) => {
    const written = format.example(random);
    const result = refusedOr(format, mutate(written, random));
    tally(result === undefined ? "refused" : "as it was");
    if (result === undefined) return;
    const original = refusedOr(format, Buffer.from(written));
    assert.deepEqual(result, original, "what is not refused is what was written");
  });
}

function refusedOr(format: FormatCase, bytes: Buffer): unknown {
  try {
    return format.decode(bytes);
  } catch (error) {
    const isRefused = isKelpieError(error, "corrupt") || isKelpieError(error, "unsupported");
    if (!isRefused) throw error;
    return undefined;
  }
}
