import { type Frame, frameOf, isPlumbing } from "./frames.ts";

/** What one thread was doing at one moment: the thread's name, and its functions, outermost first. */
export interface Sample {
  thread: string;
  frames: Frame[];
}

/**
 * Reads what `perf script -F comm,tid,ip,sym,dso` prints (perf-script(1)): for each sample a line with the
 * thread, one with each function, innermost first, and an empty one.
 */
export function parsePerfScript(text: string, root: string): Sample[] {
  const samples: Sample[] = [];
  for (const paragraph of text.split("\n\n")) {
    const [head = "", ...lines] = paragraph.split("\n").filter((line) => line !== "");
    const [, thread] = /^(\S.*?)\s+\d+\s*:?\s*$/.exec(head) ?? [];
    if (thread === undefined) continue;
    const frames = lines
      .flatMap((line) => lineFrame(line, root) ?? [])
      .filter((frame) => !isPlumbing(frame))
      .reverse();
    samples.push({ thread, frames });
  }
  return samples;
}

/** "    7f12ab34 uv__read (/usr/bin/node)": the address, the function, the file it is in. */
function lineFrame(line: string, root: string): Frame | undefined {
  const [, symbol, file] = /^\s+[0-9a-f]+ (.+) \((.*)\)$/.exec(line) ?? [];
  if (symbol === undefined || file === undefined) return undefined;
  return frameOf(symbol, file, root);
}
