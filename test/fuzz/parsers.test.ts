import assert from "node:assert/strict";
import type { SeededRandom } from "../../sim/random.ts";
import { parseDuration } from "../../src/base/durations.ts";
import { isKelpieError } from "../../src/base/errors.ts";
import { exactSize, parseSize } from "../../src/base/sizes.ts";
import { formatAddress, parseAddress } from "../../src/cli/addresses.ts";
import { detectImageFormat } from "../../src/cli/image-format.ts";
import { parseKeepDiscarded } from "../../src/cli/serve-options.ts";
import { checkSnapshot, splitName } from "../../src/cli/snapshot-name.ts";
import { type CallName, calls } from "../../src/control/calls.ts";
import { formatNbdUri, parseNbdUri } from "../../src/nbd/uri.ts";
import { checkName, checkTag, nameBytesMax, parseSelector } from "../../src/vdi/names.ts";
import { parseNote } from "../../src/vdi/notes.ts";
import { fuzz } from "./fuzz.ts";
import { pick } from "./generated-requests.ts";
import { mutate } from "./mutate.ts";

/** What people type: examples that are right, and what holds for whatever is taken. */
interface TextCase {
  examples: string[];
  /** Throws for what is refused; asserts about the rest. */
  take(text: string): void;
}

const cases: Record<string, TextCase> = {
  "a size": {
    examples: ["512", "64k", "10G", "1.5T", "10GiB", "4096B", "+1 MiB", "0", "9007199254740991"],
    take(text) {
      const bytes = parseSize(text);
      assert.ok(Number.isSafeInteger(bytes) && bytes >= 0);
      assert.equal(parseSize(exactSize(bytes)), bytes);
    },
  },
  "a duration": {
    examples: ["500ms", "90s", "15m", "1h", "2d", "0", "1.5h", "36500d"],
    take(text) {
      const ms = parseDuration(text);
      assert.ok(Number.isSafeInteger(ms) && ms >= 0);
    },
  },
  "an address": {
    examples: ["127.0.0.1:10809", "[::1]:0", "unix:/run/kelpie.sock", "off", "host.example:65535"],
    take(text) {
      const address = parseAddress(text);
      if (address === "off") return;
      assert.deepEqual(parseAddress(formatAddress(address)), address);
    },
  },
  "an NBD URI": {
    examples: [
      "nbd://host/disk",
      "nbd://[::1]:10810/a%20b",
      "nbd+unix:///disk@1?socket=/run/nbd.sock",
      "nbd+unix:///?socket=a&x=y",
      "nbd://h%C3%A9/%F0%9F%90%B6",
      "nbd://h%2F%3A%25/x",
    ],
    take(text) {
      const uri = parseNbdUri(text);
      assert.deepEqual(parseNbdUri(formatNbdUri(uri)), uri);
    },
  },
  "a disk's name": {
    examples: ["disk1", "web server", "ü@1", "x".repeat(nameBytesMax), "..."],
    take(text) {
      checkName(text);
      assert.ok(Buffer.byteLength(text) <= nameBytesMax && text.length > 0);
      assert.equal(Buffer.from(text).toString(), text, "it comes back from disk as it was");
      assert.ok([...text].every((character) => character >= " "));
      const parts = splitName(text);
      if (parts !== undefined) assert.equal(`${parts.name}@${parts.snapshot}`, text);
    },
  },
  "a tag": {
    examples: ["monday", "v3", "#x", "3rd", "12345678901"],
    take(text) {
      checkTag(text);
      assert.deepEqual(parseSelector(text), { kind: "tag", tag: text });
    },
  },
  "a snapshot": {
    examples: ["3", "#3", "monday", "#007", "999999999"],
    take(text) {
      const selector = parseSelector(checkSnapshot(text));
      if (selector.kind === "id") assert.ok(selector.snapId > 0);
      else assert.equal(selector.tag, text);
    },
  },
  "what is kept of discarded disks": {
    examples: ["1h,10%", "0", "50%", "2d, 0.5 %"],
    take(text) {
      const { ms, fraction } = parseKeepDiscarded(text);
      assert.ok(ms !== undefined || fraction !== undefined);
      assert.ok(ms === undefined || ms >= 0);
      assert.ok(fraction === undefined || (fraction >= 0 && fraction <= 1));
    },
  },
};

for (const [what, { examples, take }] of Object.entries(cases)) {
  fuzz(`${what} as it may be typed`, { runs: 3000 }, (random, tally) => {
    const text = typed(random, examples);
    try {
      take(text);
      tally("taken");
    } catch (error) {
      if (!isKelpieError(error, "invalid") && !isKelpieError(error, "unsupported")) throw error;
      assert.ok(error.message.length < 2 * text.length + 200, "a message for people");
      tally("refused");
    }
  });
}

/** An example with changes, cut and joined, as bytes that need not be text; seldom a very long one. */
function typed(random: SeededRandom, examples: readonly string[]): string {
  const example = Buffer.from(pick(random, examples));
  const donors = examples.map((one) => Buffer.from(one));
  const changed = random.below(5) === 0 ? example : mutate(example, random, donors);
  const text = changed.toString(random.below(3) === 0 ? "latin1" : "utf8");
  return random.below(300) === 0 ? text.repeat(10_000) : text;
}

fuzz("the begin and end of an image file", { runs: 2000 }, (random, tally) => {
  const magics = [
    "QFI\xfb",
    "QED\0",
    "KDMV",
    "# Disk DescriptorFile",
    "conectix",
    "vhdxfile",
    "koly",
  ];
  const head = Buffer.alloc(random.below(2) === 0 ? random.below(600) : 4096);
  head.write(pick(random, magics), "latin1");
  const tail = Buffer.alloc(random.below(520));
  tail.write(pick(random, magics), Math.max(0, tail.length - 512), "latin1");
  const found = detectImageFormat(mutate(head, random), mutate(tail, random));
  tally(found === undefined ? "raw" : "of a format");
  const bytes = found?.virtualBytes;
  assert.ok(bytes === undefined || (Number.isSafeInteger(bytes) && bytes > 0));
});

const notes = [
  { type: "create", name: "disk", tip: 1 },
  { type: "snapshot", name: "disk", snapId: 1, tag: "t", tip: 2 },
  { type: "replace", name: "disk", tip: 3, why: "rollback" },
  { type: "purge", point: 2 },
];
const inputs = [
  { name: "disk", sizeBytes: 512 },
  { names: ["disk"], tag: "t" },
  { names: ["disk"], snapshot: "t", live: true },
  { name: "disk", snapshot: "1", as: "x", source: "disk", point: 3 },
];

const strange = [-1, 0, 1e308, 0.5, null, [], {}, "", "\u0000", "\ud800", true, "x".repeat(300)];

/** An example with other values in some places, and now and then a property more. */
function changedJson(random: SeededRandom, examples: readonly object[]): unknown {
  const change = (value: unknown) => (random.below(3) > 0 ? value : pick(random, strange));
  const entries = Object.entries(pick(random, examples)).map(([key, value]) =>
    Array.isArray(value) ? [key, change(value.map(change))] : [key, change(value)],
  );
  if (random.below(9) === 0) entries.push(["more", 1]);
  return Object.fromEntries(entries);
}

fuzz("notes of the catalog", { runs: 2000 }, (random, tally) => {
  try {
    const note = parseNote(changedJson(random, notes));
    assert.deepEqual(parseNote(JSON.parse(JSON.stringify(note))), note);
    tally("taken");
  } catch (error) {
    if (!isKelpieError(error, "unsupported")) throw error;
    tally("refused");
  }
});

fuzz("inputs of calls", { runs: 2000 }, (random, tally) => {
  const { input } = calls[pick(random, Object.keys(calls) as CallName[])];
  const parsed = input.safeParse(changedJson(random, inputs));
  tally(parsed.success ? "taken" : "refused");
  if (parsed.success) assert.deepEqual(input.parse(parsed.data), parsed.data);
});
