import { assert } from "../base/assert.ts";
import type { Extent } from "./block-device.ts";

/**
 * Builds the answer to an extent query: joins neighbours of equal value, clips to the range, and is
 * full when the range is described or the next extent would be one too many.
 */
export class ExtentList {
  readonly extents: Extent[] = [];
  readonly end: number;
  readonly #extentsMax: number;
  #position: number;
  #full = false;

  constructor(start: number, end: number, extentsMax: number) {
    assert(start < end && extentsMax >= 1, "an empty extent query");
    this.#position = start;
    this.end = end;
    this.#extentsMax = extentsMax;
  }

  /** Where the description has come to. */
  get position(): number {
    return this.#position;
  }

  get full(): boolean {
    return this.#full;
  }

  /** Says that everything from the position up to `end` has this value. */
  upTo(end: number, value: number): void {
    const clipped = Math.min(end, this.end);
    const lengthBytes = clipped - this.#position;
    if (this.#full || lengthBytes <= 0) return;
    const last = this.extents.at(-1);
    if (last !== undefined && last.value === value) {
      last.lengthBytes += lengthBytes;
    } else if (this.extents.length === this.#extentsMax) {
      this.#full = true;
      return;
    } else {
      this.extents.push({ lengthBytes, value });
    }
    this.#position = clipped;
    if (clipped === this.end) this.#full = true;
  }
}
