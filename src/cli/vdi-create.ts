import { type Command, Option } from "commander";
import { KelpieError } from "../base/errors.ts";
import { exactSize, formatSize, parseSize } from "../base/sizes.ts";
import { deviceBytesMax, sectorBytes } from "../block/block-device.ts";
import type { Cli } from "./command.ts";
import { roundUp } from "./disk-io.ts";
import { printable } from "./text.ts";
import { addQosOptions, changed, type QosOptions } from "./vdi-qos.ts";

export function addCreate(parent: Command, cli: Cli): void {
  const create = parent
    .command("create")
    .summary("make an empty disk")
    .description("Makes an empty disk. It takes no space until it is written.")
    .argument("<name>", "name of the new disk")
    .argument("<size>", "its size: 10G, 1.5T, 512M; a multiple of 512 bytes")
    .addOption(flushOption());
  addQosOptions(create)
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi create disk1 10G
  kelpie vdi create disk1 1.5T --json
  kelpie vdi create disk1 10G --iops 1000 --bps 50M`,
    )
    .action((name: string, size: string, options: QosOptions & FlushOption, command: Command) => {
      const sizeBytes = parseSize(size);
      const qos = changed(null, options) ?? undefined;
      refuseForgottenUnit(size, sizeBytes);
      return cli.onStore(
        command,
        async ({ control }, printer) => {
          const mode = options.flush === undefined ? {} : { flush: options.flush };
          const entry = await control.call("vdi.create", { name, sizeBytes, qos, ...mode });
          await printer.print(
            entry,
            () => `${printable(name)}: created, ${formatSize(entry.sizeBytes)}`,
          );
          return 0;
        },
        { create: true },
      );
    });
}

interface FlushOption {
  flush?: "object" | "local";
}

/** Of a disk in an object store. */
function flushOption(): Option {
  return new Option(
    "--flush <mode>",
    "in an object store: what a flush waits for, that (object) or this machine's disk (local)",
  ).choices(["object", "local"]);
}

export function addSet(parent: Command, cli: Cli): void {
  parent
    .command("set")
    .summary("change a setting of a disk")
    .description(
      `Changes a setting of a disk, also of an attached one. With --flush local a flush does not wait for
the object store, which follows in order: if the gateway's machine is lost with its disk, what is
left is an earlier moment of the disk, a few seconds old or more if the network is slow.`,
    )
    .argument("<name>", "the disk")
    .addOption(flushOption().makeOptionMandatory())
    .addHelpText(
      "after",
      `
Example:
  kelpie vdi set disk1 --flush local`,
    )
    .action((name: string, { flush = "object" }: FlushOption, command: Command) =>
      cli.onStore(command, async ({ control }, printer) => {
        const entry = await control.call("vdi.setFlush", { name, flush });
        await printer.print(entry, () => `${printable(name)}: flush ${flush}`);
        return 0;
      }),
    );
}

export function addResize(parent: Command, cli: Cli): void {
  parent
    .command("resize")
    .summary("make a disk larger, or smaller")
    .description(
      `Changes the size of a disk; of an attached one too, but a client sees the new size only when it
connects again. Making it smaller destroys what lies behind the new end and takes --shrink.`,
    )
    .argument("<name>", "the disk")
    .argument("<size>", "its new size: 20G, 2T; or +SIZE, how much larger")
    .option("--shrink", "yes, make it smaller if that is what the size says")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi resize disk1 20G
  kelpie vdi resize disk1 +5G
  kelpie vdi resize disk1 5G --shrink`,
    )
    .action((name: string, size: string, options: { shrink?: boolean }, command: Command) => {
      const wanted = parseSize(size);
      return cli.onStore(command, async ({ control }, printer) => {
        const before = size.startsWith("+") ? await control.call("vdi.info", { name }) : undefined;
        const sizeBytes = (before?.entry.sizeBytes ?? 0) + wanted;
        const shrink = options.shrink === true && before === undefined;
        const entry = await control.call("vdi.resize", { name, sizeBytes, shrink });
        await printer.print(entry, () => `${printable(name)}: now ${exactSize(entry.sizeBytes)}`);
        return 0;
      });
    });
}

/** "10" is hardly meant as ten bytes. */
function refuseForgottenUnit(size: string, sizeBytes: number): void {
  if (!/^\d+$/.test(size) || sizeBytes === 0 || sizeBytes % sectorBytes === 0) return;
  const remedy =
    sizeBytes < bareGigabytesMax
      ? `write ${size}G for gigabytes; in bytes the next is ${roundUp(sizeBytes)}`
      : `the next is ${roundUp(sizeBytes)}`;
  const message = `a size must be a multiple of ${sectorBytes} bytes, and ${size} is not`;
  throw new KelpieError("invalid", message, { remedy });
}

/** 16 TiB, the largest disk: a larger number is no number of gigabytes. */
const bareGigabytesMax = deviceBytesMax / 2 ** 30;
