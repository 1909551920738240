/** What a request is counted as. Small numbers: they are indexes on the path of every request. */
export const meterKind = { read: 0, write: 1, flush: 2, trim: 3, zero: 4, other: 5 } as const;
export type MeterKind = (typeof meterKind)[keyof typeof meterKind];

/** The names of the kinds, by number. */
export const meterKinds = ["read", "write", "flush", "trim", "zero", "other"] as const;

/**
 * Told by a server of the requests of one export. Called for every request, so it must be short and
 * must not fail.
 */
export interface RequestMeter {
  /** Never goes back. */
  nowMs(): number;
  /** Answered: `bytes` is what the request asked for, `tookMs` from when it was begun. */
  done(kind: MeterKind, bytes: number, tookMs: number): void;
  failed(kind: MeterKind, tookMs: number): void;
}

/** What a request that has to wait keeps for its meter. */
export interface Measured {
  meter: RequestMeter | undefined;
  kind: MeterKind;
  bytes: number;
  /** By the meter's clock. */
  beganMs: number;
}

/** Tells the meters of requests that ended together; one look at the clock. */
export function tellMeters(requests: readonly Measured[], outcome: "done" | "failed"): void {
  const meter = requests[0]?.meter;
  if (meter === undefined) return;
  const nowMs = meter.nowMs();
  for (const { meter: own, kind, bytes, beganMs } of requests) {
    if (outcome === "done") own?.done(kind, bytes, nowMs - beganMs);
    else own?.failed(kind, nowMs - beganMs);
  }
}
