import type { Command } from "commander";
import { parseDuration } from "../base/durations.ts";
import { KelpieError } from "../base/errors.ts";
import { formatSize, parseSize } from "../base/sizes.ts";
import { burstMsDefault } from "../block/request-limiter.ts";
import type { QosEntry } from "../control/calls.ts";
import type { Cli } from "./command.ts";
import { printable } from "./text.ts";

export interface QosOptions {
  iops?: string;
  bps?: string;
  burst?: string;
}

export function addQosOptions(command: Command): Command {
  return command
    .option("--iops <n>", "at most so many requests a second")
    .option("--bps <size>", "at most so many bytes a second: 50M")
    .option("--burst <time>", "save up for so long while it is not used; else 100ms");
}

export function addQos(parent: Command, cli: Cli): void {
  addQosOptions(
    parent
      .command("qos")
      .summary("limit how fast a disk may be used, or show it")
      .description(
        `Limits the requests and bytes a second of a disk, over all who have it open and its snapshots, from
now on. What is not said stays as it is; "off" lifts a limit. Without options it shows them. The limits
stay with the disk until it is deleted.`,
      )
      .argument("<name>", "the disk"),
  )
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi qos disk1 --iops 1000 --bps 50M
  kelpie vdi qos disk1 --bps off
  kelpie vdi qos disk1`,
    )
    .action((name: string, options: QosOptions, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const { qos: before = null } = await control.call("vdi.info", { name });
        const qos = changed(before, options);
        if (Object.keys(options).length > 0) await control.call("vdi.setQos", { name, qos });
        await printer.print({ name, qos }, () => `${printable(name)}: ${describeQos(qos)}`);
        return 0;
      }),
    );
}

/** Null if nothing is limited. */
export function changed(before: QosEntry | null, options: QosOptions): QosEntry | null {
  const opsPerSecond = rateOf("--iops", options.iops, before?.opsPerSecond, parseCount);
  const bytesPerSecond = rateOf("--bps", options.bps, before?.bytesPerSecond, parseSize);
  const burstMs =
    options.burst === undefined ? (before?.burstMs ?? burstMsDefault) : parseBurst(options.burst);
  if (opsPerSecond === undefined && bytesPerSecond === undefined) {
    if (options.burst === undefined) return null;
    throw new KelpieError("invalid", "--burst without a limit", { remedy: "add --iops or --bps" });
  }
  return {
    ...(opsPerSecond === undefined ? {} : { opsPerSecond }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    burstMs,
  };
}

export function describeQos(qos: QosEntry | null): string {
  if (qos === null) return "no limits";
  const { opsPerSecond, bytesPerSecond, burstMs } = qos;
  const limits = [
    ...(opsPerSecond === undefined ? [] : [`${opsPerSecond} requests/s`]),
    ...(bytesPerSecond === undefined ? [] : [`${formatSize(bytesPerSecond)}/s`]),
  ];
  return `${limits.join(", ")}, burst ${burstMs} ms`;
}

function rateOf(
  flag: string,
  text: string | undefined,
  before: number | undefined,
  parse: (text: string) => number,
): number | undefined {
  if (text === undefined) return before;
  if (text === "off") return undefined;
  const rate = parse(text);
  if (rate > 0) return rate;
  throw new KelpieError("invalid", `${flag} ${text}: nothing could be done at that rate`, {
    remedy: `${flag} off lifts the limit`,
  });
}

function parseCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new KelpieError("invalid", `--iops ${text}: it is a number of requests, or off`);
}

function parseBurst(text: string): number {
  const burstMs = parseDuration(text);
  if (burstMs >= 1 && burstMs <= 3_600_000) return burstMs;
  throw new KelpieError("invalid", `--burst ${text}: it is between 1ms and 1h`);
}
