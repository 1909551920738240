import { median } from "../growth/samples.ts";
import { appendBenches } from "./append.ts";
import { codecBenches } from "./codec.ts";
import { mapBenches } from "./map.ts";
import { type MicroBench, type MicroResult, type MicroSettings, runMicro } from "./micro-bench.ts";
import { readBenches } from "./read.ts";

export const microBenches: readonly MicroBench[] = [
  ...codecBenches,
  ...mapBenches,
  ...appendBenches,
  ...readBenches,
];

const forms: Record<"quick" | "full" | "smallest", MicroSettings> = {
  quick: { samples: 3, sampleMs: 20, countMin: 64 },
  /** Shows that they work, and no number that means anything. */
  smallest: { samples: 1, sampleMs: 0, countMin: 64 },
  full: { samples: 7, sampleMs: 200, countMin: 1024 },
};

/** One after the other, in this process; those whose name has the pattern. */
export async function runMicroBenches(options: {
  form: keyof typeof forms;
  only?: readonly string[] | undefined;
}): Promise<MicroResult[]> {
  const patterns = (options.only ?? [""]).map((pattern) => pattern.toLowerCase());
  const results: MicroResult[] = [];
  for (const bench of microBenches) {
    if (!patterns.some((one) => bench.name.toLowerCase().includes(one))) continue;
    results.push(await runMicro(bench, forms[options.form]));
  }
  return results;
}

export function formatMicro(results: readonly MicroResult[]): string {
  const width = Math.max(...results.map(({ name }) => name.length));
  return results
    .map(({ name, nsPerOperation }) => {
      const [low, high] = [Math.min(...nsPerOperation), Math.max(...nsPerOperation)];
      const value = nsText(median(nsPerOperation)).padStart(9);
      return `${name.padEnd(width)} ${value} ns  (${nsText(low)}-${nsText(high)})`;
    })
    .join("\n");
}

function nsText(ns: number): string {
  return ns < 100 ? ns.toFixed(1) : Math.round(ns).toLocaleString("en");
}
