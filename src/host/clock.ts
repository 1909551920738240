export interface Clock {
  /** Wall-clock time in milliseconds since 1970. May jump. For people to read. */
  nowMs(): number;
  /** Milliseconds from an arbitrary start. Never goes back. For durations and time-outs. */
  monotonicMs(): number;
}
