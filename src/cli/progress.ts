import { formatClock } from "../base/durations.ts";
import { formatSize } from "../base/sizes.ts";
import type { Progress } from "../control/calls.ts";
import type { CliContext } from "./context.ts";

/** A line on the terminal that says how far a long command is; nothing if there is no terminal. */
export interface ProgressLine {
  update(progress: Progress): void;
  /** Removes the line. */
  done(): void;
}

export function createProgressLine(context: CliContext, label: string): ProgressLine {
  const { stderr, host } = context;
  if (!stderr.isTerminal) return { update() {}, done() {} };
  const rate = createRateMeter();
  let shownMs = Number.NEGATIVE_INFINITY;
  const write = (text: string): void => {
    // What cannot be shown is not missed; a broken terminal shows soon enough elsewhere.
    stderr.write(text).catch(() => {});
  };
  return {
    update(progress) {
      const nowMs = host.clock.monotonicMs();
      rate.add(nowMs, progress.doneBytes);
      if (nowMs - shownMs < redrawMs) return;
      shownMs = nowMs;
      const line = describeProgress(label, progress, rate.bytesPerSecond());
      write(`\r${line.slice(0, Math.max(stderr.columns - 1, 20))}\x1b[K`);
    },
    done() {
      if (shownMs !== Number.NEGATIVE_INFINITY) write("\r\x1b[K");
    },
  };
}

/** "import disk1: 45 % of 2.7 GiB, 350 MiB/s, 0:04 left" */
export function describeProgress(label: string, progress: Progress, rate: number): string {
  const { doneBytes, totalBytes } = progress;
  const speed = rate > 0 ? `, ${formatSize(rate)}/s` : "";
  // The end of a stream is not known before it is there.
  if (totalBytes <= 0) return `${label}: ${formatSize(doneBytes)}${speed}`;
  const share = Math.min(doneBytes / totalBytes, 1);
  const percent = `${Math.floor(share * 100)} % of ${formatSize(totalBytes)}`;
  const leftBytes = Math.max(totalBytes - doneBytes, 0);
  const left = rate > 0 ? `, ${formatClock((leftBytes / rate) * 1000)} left` : "";
  return `${label}: ${percent}${speed}${left}`;
}

/** Often enough to look alive, seldom enough not to cost anything. */
const redrawMs = 200;

/** The rate is that of the last seconds: what is left depends on now, not on the beginning. */
const rateWindowMs = 5000;

export function createRateMeter(): {
  add(nowMs: number, doneBytes: number): void;
  bytesPerSecond(): number;
} {
  let samples: { nowMs: number; doneBytes: number }[] = [];
  return {
    add(nowMs, doneBytes) {
      const last = samples.at(-1);
      // A sample now and then is enough; a call per block must not make a long list.
      if (last !== undefined && nowMs - last.nowMs < rateWindowMs / 50) {
        last.doneBytes = doneBytes;
        return;
      }
      samples.push({ nowMs, doneBytes });
      const oldest = samples.findLastIndex((sample) => nowMs - sample.nowMs > rateWindowMs);
      if (oldest > 0) samples = samples.slice(oldest);
    },
    bytesPerSecond() {
      const [first, last] = [samples[0], samples.at(-1)];
      if (first === undefined || last === undefined || last.nowMs === first.nowMs) return 0;
      return ((last.doneBytes - first.doneBytes) * 1000) / (last.nowMs - first.nowMs);
    },
  };
}
