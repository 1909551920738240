import { tmpdir } from "node:os";
import { parseArgs } from "node:util";

export interface BenchOptions {
  what: "figures" | "micro" | "snapshots" | "flame" | "help";
  form: "quick" | "full";
  rounds: number;
  /** Figures whose id or name has one of these, whatever the case; all if absent. */
  only?: readonly string[] | undefined;
  json?: string | undefined;
  svg?: string | undefined;
  out?: string | undefined;
  check?: string | undefined;
  flame?: string | undefined;
  scratch: string;
}

/** A median of fewer says too little to fail a check. */
export const checkRoundsMin = 5;

export const help = `npm run bench -- [options]

Kelpie beside qemu-nbd and nbdkit, in turn, with the same fio jobs: a table of everything it must
reach, with the ratio, the target and whether it is met. What cannot be measured is said, with the
reason. docs/performance.md tells how to read it.

Debian packages of the others: fio qemu-utils nbdkit

  --quick          about a minute: smaller disks, shorter turns, not the figures that take minutes
  --only PATTERN   only figures whose name or id has it: --only "random read" --only growth
  --rounds N       turns of each server; the median counts (5, --quick 3, --check ${checkRoundsMin})
  --json FILE      writes everything that was measured
  --svg FILE       writes a bar chart of the ratios
  --out DIR        both, as bench.json and bench.svg
  --check FILE     measures what --json wrote there again: ends with 1 if a ratio is under half
  --scratch DIR    for disks: 6 GiB, on the file system to measure (${tmpdir()})
  --micro          the cost of single steps inside one process, in ns
  --snapshots      what operations cost with up to 1,000 snapshots
  --flame DIR      where the time of a server goes: flame-read.svg and flame-write.svg, by perf
  --help           this`;

/** Throws an error with a sentence for people if it cannot be meant. */
export function parseOptions(argv: string[]): BenchOptions {
  const { values } = parseArgs({
    args: argv,
    options: {
      quick: { type: "boolean", default: false },
      micro: { type: "boolean", default: false },
      snapshots: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
      only: { type: "string", multiple: true },
      rounds: { type: "string" },
      json: { type: "string" },
      svg: { type: "string" },
      out: { type: "string" },
      check: { type: "string" },
      flame: { type: "string" },
      scratch: { type: "string", default: tmpdir() },
    },
  });
  const { quick, micro, snapshots, help, rounds, ...files } = values;
  const roundsDefault = quick && files.check === undefined ? 3 : checkRoundsMin;
  const options: BenchOptions = {
    ...files,
    what: help ? "help" : whatOf(values),
    form: quick ? "quick" : "full",
    rounds: rounds === undefined ? roundsDefault : Number(rounds),
  };
  if (!Number.isInteger(options.rounds) || options.rounds < 1) {
    throw new Error(`--rounds ${rounds}: not a number of rounds`);
  }
  if (options.check !== undefined && options.rounds < checkRoundsMin) {
    throw new Error(`--check needs ${checkRoundsMin} rounds or more`);
  }
  return options;
}

function whatOf(values: {
  micro: boolean;
  snapshots: boolean;
  flame?: string | undefined;
}): BenchOptions["what"] {
  if (values.micro) return "micro";
  if (values.snapshots) return "snapshots";
  return values.flame === undefined ? "figures" : "flame";
}
