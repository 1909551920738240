import { median } from "./growth/samples.ts";
import type { Machine } from "./machine.ts";

/** What a ratio must reach. */
export type Target = { atLeast: number } | { under: number };

/** One ratio: two things measured in turn. */
export interface Comparison {
  /** What the other one is: a peer, or Kelpie in another state. */
  beside: string;
  unit: string;
  /** Of each round, in order. */
  ours: number[];
  theirs: number[];
  /** None: it is shown for what it is worth. */
  target?: Target | undefined;
  /** Then there are no values, and this is why. */
  notMeasured?: string | undefined;
}

/** What came of one figure: ratios, or for those that are none, words and a verdict. */
export interface Measurement {
  comparisons: Comparison[];
  verdict?: { measured: string; met: boolean; values: Record<string, number> };
  /** What the reader should know about these numbers. */
  notes?: string[];
}

export interface FigureReport extends Measurement {
  id: string;
  name: string;
  target: string;
  /** A tool that is missing, or the error that came. */
  notMeasured?: string | undefined;
  /** It should have been, and something went wrong. */
  failed?: boolean | undefined;
  seconds: number;
}

export interface BenchReport {
  machine: Machine;
  form: "quick" | "full";
  rounds: number;
  diskBytes: number;
  figures: FigureReport[];
}

/** The median of the rounds' ratios; in each round both were measured one right after the other. */
export function ratioOf({ ours, theirs }: Comparison): number {
  return median(ours.map((value, round) => value / (theirs[round] ?? Number.NaN)));
}

/** Undefined if there is no target, or nothing was measured. */
export function isMet(comparison: Comparison): boolean | undefined {
  const { target, notMeasured } = comparison;
  if (target === undefined || notMeasured !== undefined) return undefined;
  const ratio = ratioOf(comparison);
  return "atLeast" in target ? ratio >= target.atLeast : ratio < target.under;
}

/** The name by which a ratio is found again in another run. */
export function ratioKey(figure: { id: string }, comparison: Comparison): string {
  return `${figure.id} / ${comparison.beside}`;
}
