import type { RandomSource } from "../src/host/random.ts";

/** Makes the choices of an adversary. The same seed makes the same ones. */
export interface Chooser {
  /** An integer from 0 up to, not including, `limit`. */
  below(limit: number): number;
}

/** splitmix32: one 32-bit state, full period, passes the usual tests; not fit for secrets. */
export class SeededRandom implements RandomSource, Chooser {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed >>> 0;
  }

  below(limit: number): number {
    return Math.floor((this.#next() / 2 ** 32) * limit);
  }

  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    for (let index = 0; index < count; index += 1) bytes[index] = this.#next() >>> 24;
    return bytes;
  }

  #next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }
}
