/**
 * Counts of durations, in buckets whose bounds grow by a quarter of an octave: a percentile is a quarter too
 * high at most, and counting is some integer arithmetic. From a microsecond to half an hour; what is longer
 * counts as that.
 */
export class Latencies {
  readonly counts = new Float64Array(bucketCount);
  sumMs = 0;

  add(tookMs: number): void {
    const bucket = bucketOf(tookMs);
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.sumMs += tookMs;
  }
}

const bucketsPerOctave = 4;
const octaves = 32;
export const bucketCount = octaves * bucketsPerOctave;

/** Octave and the two bits behind the leading one, of the duration in microseconds. */
export function bucketOf(tookMs: number): number {
  const us = Math.min(2 ** 31 - 1, tookMs * 1000) | 0;
  if (us < bucketsPerOctave) return Math.max(0, us);
  const octave = 31 - Math.clz32(us);
  return octave * bucketsPerOctave + ((us >> (octave - 2)) & 3);
}

/** Durations in the bucket are shorter than this. */
export function boundMs(bucket: number): number {
  if (bucket < 2 * bucketsPerOctave) return (bucket + 1) / 1000;
  const octave = Math.floor(bucket / bucketsPerOctave);
  const quarter = bucket % bucketsPerOctave;
  return (2 ** octave * (1 + (quarter + 1) / bucketsPerOctave)) / 1000;
}

/** How long the fastest `share` (0 to 1) of what was counted took at most; 0 if there was nothing. */
export function percentileMs(counts: Float64Array, share: number): number {
  let total = 0;
  for (const count of counts) total += count;
  if (total === 0) return 0;
  let left = Math.max(1, Math.ceil(total * share));
  for (let bucket = 0; bucket < counts.length; bucket++) {
    left -= counts[bucket] ?? 0;
    if (left <= 0) return boundMs(bucket);
  }
  return boundMs(counts.length - 1);
}
