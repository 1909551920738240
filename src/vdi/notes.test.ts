import assert from "node:assert/strict";
import { test } from "node:test";
import { type Note, parseNote } from "./notes.ts";

const known: Note[] = [
  { type: "create", name: "a", tip: 1 },
  { type: "snapshot", name: "a", snapId: 1, tag: "t", tip: 2 },
  { type: "replace", name: "a", tip: 3, why: "rollback" },
  { type: "delete", name: "a" },
  { type: "deleteSnapshot", point: 1 },
  { type: "purge", point: 2 },
];

test("notes come back from a record as they were", () => {
  for (const note of known) assert.deepEqual(parseNote(JSON.parse(JSON.stringify(note))), note);
});

test("a note, or a part of one, that is not known is unsupported", () => {
  for (const value of [
    { type: "lock", name: "a" },
    { type: "create", name: "a", tip: 1, owner: "x" },
    { type: "replace", name: "a", tip: 3, why: "merge" },
    { type: "create", name: "a", tip: 0 },
    { type: "purge" },
    null,
    "create",
  ]) {
    assert.throws(() => parseNote(value), { code: "unsupported" }, JSON.stringify(value));
  }
});
