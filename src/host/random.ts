export interface RandomSource {
  /** `count` random bytes, fit for identifiers and nonces. */
  bytes(count: number): Uint8Array;
}
