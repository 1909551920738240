import assert from "node:assert/strict";
import { test } from "node:test";
import { createRateMeter, describeProgress } from "./progress.ts";
import { formatFields, formatTable, plural, shellWord } from "./text.ts";

test("progress says the share, the rate and the time left", () => {
  const progress = { doneBytes: 45 * 2 ** 20, totalBytes: 100 * 2 ** 20 };
  assert.equal(
    describeProgress("import d", progress, 11 * 2 ** 20),
    "import d: 45 % of 100 MiB, 11 MiB/s, 0:05 left",
  );
  assert.equal(describeProgress("x", progress, 0), "x: 45 % of 100 MiB");
  const unknown = { doneBytes: 5 * 2 ** 20, totalBytes: 0 };
  assert.equal(describeProgress("x", unknown, 2 ** 20), "x: 5.0 MiB, 1.0 MiB/s");
  const over = { doneBytes: 11, totalBytes: 10 };
  assert.equal(describeProgress("x", over, 1), "x: 100 % of 10 B, 1 B/s, 0:00 left");
});

test("the rate is that of the last seconds", () => {
  const meter = createRateMeter();
  assert.equal(meter.bytesPerSecond(), 0);
  for (let second = 0; second <= 20; second++) meter.add(second * 1000, second * 1000);
  assert.equal(meter.bytesPerSecond(), 1000);
  for (let second = 21; second <= 40; second++)
    meter.add(second * 1000, 20_000 + (second - 20) * 50);
  assert.equal(meter.bytesPerSecond(), 50);
});

test("tables and fields line up", () => {
  const rows = [
    ["a", "1"],
    ["bbbbb", "200"],
  ];
  assert.equal(formatTable(["Name", "Id"], rows, ["Id"]), "Name    Id\na        1\nbbbbb  200\n");
  assert.equal(
    formatFields([
      ["A", "1"],
      ["Long", "2"],
    ]),
    "A:    1\nLong: 2\n",
  );
  assert.deepEqual([plural(1, "disk"), plural(0, "disk")], ["1 disk", "0 disks"]);
});

test("words for a shell are quoted when they must be", () => {
  assert.equal(shellWord("/a/b-c.raw"), "/a/b-c.raw");
  assert.equal(shellWord("a b"), "'a b'");
  assert.equal(shellWord("it's"), "'it'\\''s'");
  assert.equal(shellWord(""), "''");
  assert.equal(shellWord("a?b=$c"), "'a?b=$c'");
});
