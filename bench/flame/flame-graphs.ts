import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { missingTools } from "../tools.ts";
import { drawFlame, kinds, percent } from "./draw.ts";
import { countByKind, fold } from "./fold.ts";
import { parsePerfScript } from "./perf-script.ts";
import { recordStacks } from "./record.ts";

const root = resolve(import.meta.dirname, "../..");
const graphs = { read: "randread", write: "randwrite" } as const;
const queueDepth = 32;
const forms = {
  quick: { sizeBytes: 2 ** 26, warmUpMs: 1000, recordMs: 1000 },
  full: { sizeBytes: 2 ** 29, warmUpMs: 5000, recordMs: 10_000 },
};

/** Writes flame-read.svg and flame-write.svg: a server under 4 KiB random reads, and writes, at depth 32. */
export async function writeFlameGraphs(
  options: { directory: string; scratch: string; form: "quick" | "full" },
  print: (line: string) => void,
): Promise<void> {
  const { directory, scratch, form } = options;
  const reason = missingTools(["fio", "perf"]);
  if (reason !== undefined) throw new Error(reason);
  await mkdir(directory, { recursive: true });
  for (const [what, rw] of Object.entries(graphs)) {
    const own = await mkdtemp(join(scratch, "kelpie-flame-"));
    try {
      const text = await recordStacks({ rw, queueDepth, directory: own, ...forms[form] });
      const tree = fold(parsePerfScript(text, root));
      const title = `kelpie serve under 4 KiB random ${what}s, queue depth ${queueDepth}`;
      await writeFile(join(directory, `flame-${what}.svg`), drawFlame(title, tree));
      const shares = [...countByKind(tree)].map(
        ([kind, count]) => `${kinds[kind].text} ${percent(count / tree.count)}`,
      );
      print(`random ${what}s, ${tree.count} samples: ${shares.join(", ")}`);
    } finally {
      await rm(own, { recursive: true, force: true });
    }
  }
}
