import assert from "node:assert/strict";
import { test } from "node:test";
import { walkLosses } from "./losses.ts";

const settings = { imagesMax: 100, singlesMax: 8, samples: 5, seed: 1 };

test("a few choices are tried in every combination, also those that depend on others", () => {
  const { images, isExhaustive } = walkLosses(settings, (chooser) => {
    const first = chooser.below(2);
    const second = first === 0 ? "" : chooser.below(3);
    return `${first}${second}${chooser.below(2)}`;
  });
  assert.equal(isExhaustive, true);
  const all = images.map(({ image }) => image).sort();
  assert.deepEqual(all, ["00", "01", "100", "101", "110", "111", "120", "121"]);
});

test("of a size only whole sectors are tried", () => {
  const { images } = walkLosses(settings, (chooser) => chooser.below(1500));
  assert.deepEqual(
    images.map(({ image }) => image),
    [0, 512, 1024],
  );
});

test("of many choices nothing, all, single ones and seeded draws are tried", () => {
  const made = (length: number) =>
    walkLosses(settings, (chooser) => {
      return Array.from({ length }, () => chooser.below(2)).join("");
    });
  const { images, isExhaustive } = made(8);
  assert.equal(isExhaustive, false);
  const all = new Set(images.map(({ image }) => image));
  assert.ok(all.has("00000000") && all.has("11111111"));
  for (let at = 0; at < 8; at++) {
    assert.ok(all.has(`${"0".repeat(at)}1${"0".repeat(7 - at)}`), `only choice ${at} is kept`);
    assert.ok(all.has(`${"1".repeat(at)}0${"1".repeat(7 - at)}`), `only choice ${at} is lost`);
  }
  assert.equal(images.length, 2 * (1 + 8) + 5);
  assert.equal(made(1000).images.length, 2 * (1 + 8) + 5, "single ones are limited");
});
