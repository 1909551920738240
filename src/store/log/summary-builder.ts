import { type BatchEntry, entryKind, entryWords } from "../formats/batch.ts";
import type { Summary } from "../formats/segment.ts";

/** Gathers what batches wrote, in the layout of a summary, without an object for each block. */
export class SummaryBuilder {
  #entries = new Uint32Array(1024);
  #entryCount = 0;
  #crcs = new Uint32Array(1024);
  #crcCount = 0;

  get entryCount(): number {
    return this.#entryCount;
  }

  /** `position`: of the entry's first block, in units, if it has any. */
  addEntry(entry: BatchEntry, position: number): void {
    if ((this.#entryCount + 1) * entryWords > this.#entries.length) {
      this.#entries = grown(this.#entries, (this.#entryCount + 1) * entryWords);
    }
    const at = this.#entryCount * entryWords;
    this.#entries[at] = entry.block >>> 0;
    this.#entries[at + 1] = Math.floor(entry.block / 0x100000000) | (entry.kind << 16);
    this.#entries[at + 2] = entry.count;
    this.#entries[at + 3] = entry.kind === entryKind.data ? position : 0;
    this.#entryCount++;
  }

  addCrcs(crcs: ArrayLike<number>): void {
    if (this.#crcCount + crcs.length > this.#crcs.length) {
      this.#crcs = grown(this.#crcs, this.#crcCount + crcs.length);
    }
    this.#crcs.set(crcs, this.#crcCount);
    this.#crcCount += crcs.length;
  }

  addEntryWords(entries: Uint32Array): void {
    if (this.#entryCount * entryWords + entries.length > this.#entries.length) {
      this.#entries = grown(this.#entries, this.#entryCount * entryWords + entries.length);
    }
    this.#entries.set(entries, this.#entryCount * entryWords);
    this.#entryCount += entries.length / entryWords;
  }

  summary(): Summary {
    return {
      entries: this.#entries.subarray(0, this.#entryCount * entryWords),
      crcs: this.#crcs.subarray(0, this.#crcCount),
    };
  }
}

function grown(words: Uint32Array<ArrayBuffer>, needed: number): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(Math.max(needed, words.length * 2));
  larger.set(words);
  return larger;
}
