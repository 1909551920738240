import assert from "node:assert/strict";

/** A bug that somebody could have written: one text of one file, and what stands there instead. */
export interface Mutant {
  /** What it does, in a few words. */
  name: string;
  file: string;
  /** Exactly once in the file. */
  find: string;
  replace: string;
  /** How one comes to write it. */
  why: string;
}

/** The file's text with the bug in it. Fails if the list is out of step with the source. */
export function plant(mutant: Mutant, text: string): string {
  const { name, file, find, replace } = mutant;
  const places = text.split(find).length - 1;
  assert.equal(places, 1, `the planted bug "${name}": its text is ${places} times in ${file}`);
  assert.notEqual(find, replace, `the planted bug "${name}" changes nothing`);
  // Not as a pattern: "$&" and the like mean nothing here.
  return text.replace(find, () => replace);
}
