import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { shellCommand } from "./shell-words.ts";

test("a shell reads the words that were written", () => {
  const words = ["plain-1.0", "two words", "#1", "it's", "$HOME", "a?b=c&d", "", "~", "*", 'q"\\'];
  const script = `${shellCommand("printf", "%s\\0", ...words)}`;
  const read = execFileSync("sh", ["-c", script], { encoding: "utf8" });
  assert.deepEqual(read.split("\0").slice(0, -1), words);
  assert.equal(
    shellCommand("kelpie", "--store", "sheepdog://10.0.0.7:7000"),
    "kelpie --store sheepdog://10.0.0.7:7000",
  );
});
