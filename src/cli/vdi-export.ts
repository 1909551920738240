import { basename, dirname, resolve } from "node:path";
import type { Command } from "commander";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import { formatSize } from "../base/sizes.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { FileHandle, Files } from "../host/files.ts";
import type { Cli } from "./command.ts";
import type { Output } from "./context.ts";
import { dataRanges, readBytes } from "./disk-io.ts";
import { cut, nonZeroRuns, type Piece, readAhead } from "./pipeline.ts";
import { createProgressLine, type ProgressLine } from "./progress.ts";
import { printable, shellWord } from "./text.ts";
import { withDevice } from "./vdi-read.ts";

export function addExport(parent: Command, cli: Cli): void {
  parent
    .command("export")
    .summary("write a disk, or a snapshot, to a raw image file")
    .description(
      `Writes a disk or a snapshot to a raw image file. Holes stay holes. The file appears under its
name when it is complete and safe from power loss.`,
    )
    .argument("<name>", "NAME, NAME@TAG or NAME@#ID")
    .argument("<file>", "the file to write; - is standard output")
    .option("-f, --force", "replace the file if it is there")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi export disk1@monday monday.raw
  kelpie vdi export disk1 - | zstd > disk1.raw.zst`,
    )
    .action((name: string, file: string, options: { force?: boolean }, command: Command) =>
      cli.onStore(command, async (session, printer) => {
        const { files } = cli.context.host;
        if (file !== "-") await checkTarget(files, file, options.force === true);
        return withDevice(session, name, async (device) => {
          const line = createProgressLine(cli.context, `export ${printable(name)}`);
          if (file === "-") {
            await exportToStream(device, cli.context.stdout, { cli, line }).finally(line.done);
            return 0;
          }
          const exporting = exportToFile(device, resolve(file), { cli, line });
          const dataBytes = await exporting.finally(line.done);
          const result = { name, file, sizeBytes: device.sizeBytes, dataBytes };
          await printer.print(result, () => {
            const sizes = `${formatSize(device.sizeBytes)}, ${formatSize(dataBytes)} of data`;
            return `${printable(name)}: exported to ${file}, ${sizes}`;
          });
          return 0;
        });
      }),
    );
}

interface Job {
  cli: Cli;
  line: ProgressLine;
}

/** Under another name until it is whole: a file that exists is a file that is complete. */
async function exportToFile(device: BlockDevice, file: string, job: Job): Promise<number> {
  const { files } = job.cli.context.host;
  const partial = resolve(dirname(file), `.${basename(file)}.kelpie-partial`);
  await files.remove(partial).catch(ignoreMissing);
  const handle = await files.open(partial, { access: "create" });
  let dataBytes: number;
  try {
    try {
      dataBytes = await writeData(device, handle, job);
      await handle.truncate(device.sizeBytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await files.rename(partial, file);
  } catch (error) {
    await files.remove(partial).catch(ignoreMissing);
    throw error;
  }
  await files.syncDirectory(dirname(file));
  return dataBytes;
}

async function writeData(device: BlockDevice, handle: FileHandle, job: Job): Promise<number> {
  let dataBytes = 0;
  for await (const { offset, bytes } of readData(device, job)) {
    for (const { start, end } of nonZeroRuns(bytes)) {
      await handle.write([bytes.subarray(start, end)], offset + start);
      dataBytes += end - start;
    }
  }
  return dataBytes;
}

async function exportToStream(device: BlockDevice, out: Output, job: Job): Promise<void> {
  let written = 0;
  const fill = async (end: number): Promise<void> => {
    while (written < end) {
      const count = Math.min(end - written, zeros.length);
      await out.write(zeros.subarray(0, count));
      written += count;
    }
  };
  for await (const { offset, bytes } of readData(device, job)) {
    await fill(offset);
    await out.write(bytes);
    written += bytes.length;
  }
  await fill(device.sizeBytes);
}

/** A pipe has no holes. */
const zeros = new Uint8Array(256 * 1024);

/** What is not a hole, in order. The share done is where in the disk we are: holes take no time. */
async function* readData(device: BlockDevice, { cli, line }: Job): AsyncGenerator<Piece> {
  const pieces = readAhead(cut(dataRanges(device)), async (range) => {
    return { offset: range.offset, bytes: await readBytes(device, range) };
  });
  for await (const piece of pieces) {
    cli.context.signal.throwIfAborted();
    yield piece;
    const doneBytes = piece.offset + piece.bytes.length;
    line.update({ doneBytes, totalBytes: device.sizeBytes });
  }
}

async function checkTarget(files: Files, file: string, replace: boolean): Promise<void> {
  let kind: string;
  try {
    ({ kind } = await files.stat(file));
  } catch (error) {
    ignoreMissing(error);
    await checkDirectory(files, dirname(file));
    return;
  }
  // Renaming over a device would put a file in its place.
  if (kind !== "file") {
    const remedy = kind === "other" ? { remedy: `use - and > ${shellWord(file)}` } : {};
    throw new KelpieError("invalid", `${file}: it is not a regular file`, remedy);
  }
  if (replace) return;
  throw new KelpieError("exists", `${file}: it is there already`, {
    remedy: "choose another name, or replace it with -f",
  });
}

async function checkDirectory(files: Files, directory: string): Promise<void> {
  await files.stat(directory).catch((error: unknown) => {
    ignoreMissing(error);
    throw new KelpieError("not-found", `there is no directory ${directory}`, { cause: error });
  });
}

function ignoreMissing(error: unknown): void {
  if (!isKelpieError(error, "not-found")) throw error;
}
