import assert from "node:assert/strict";
import { test } from "node:test";
import { fnvLow32, nameHash } from "./name-hash.ts";

test("names hash to the vids that Sheepdog gives them", () => {
  const vectors: Record<string, number> = {
    test: 0x7c2b25,
    test0: 0xfd34af,
    test1: 0xfd32fc,
    test2: 0xfd3815,
    Alice: 0x15d167,
    base: 0x54c278,
    "01909709": 0x000000,
    "05421217": 0xffffff,
    "00471718": 0xfffff9,
  };
  for (const [name, hash] of Object.entries(vectors)) assert.equal(nameHash(name), hash, name);
});

test("an attribute hashes as name, tag, snap id and key, one after the other", () => {
  const padded = (text: string) => {
    const field = Buffer.alloc(256);
    field.write(text);
    return field;
  };
  let hash = fnvLow32(padded("test"));
  for (const part of [padded(""), Buffer.alloc(4), padded("key")]) hash = fnvLow32(part, hash);
  assert.equal(hash, 0x972882c4);
});
