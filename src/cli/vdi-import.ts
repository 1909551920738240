import type { Command } from "commander";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import { exactSize, formatSize, parseSize } from "../base/sizes.ts";
import { type BlockDevice, deviceBytesMax } from "../block/block-device.ts";
import type { VdiEntry } from "../control/calls.ts";
import type { FileHandle } from "../host/files.ts";
import { formatNbdUri, parseNbdUri } from "../nbd/uri.ts";
import type { Cli } from "./command.ts";
import type { CliContext } from "./context.ts";
import { roundUp, writeBytes, writeSparse } from "./disk-io.ts";
import { detectImageFormat, headBytes, type ImageFormat, tailBytes } from "./image-format.ts";
import { cut, forEachInFlight, type Piece, pieceBytes, piecesOf, readAhead } from "./pipeline.ts";
import { createProgressLine, type ProgressLine } from "./progress.ts";
import type { Session } from "./session.ts";
import { printable, shellWord } from "./text.ts";
import { withDevice } from "./vdi-read.ts";

interface ImportOptions {
  raw?: boolean;
  size?: string;
}

export function addImport(parent: Command, cli: Cli): void {
  parent
    .command("import")
    .summary("make a disk from a raw image file")
    .description(
      `Makes a new disk from a raw image. Blocks of zeros become holes. Images in other formats are
recognised and refused, with the command that converts them.`,
    )
    .argument("<file>", "a raw image; - is standard input")
    .argument("<name>", "name of the new disk")
    .option("--raw", "take the file as it is, whatever format it seems to have")
    .option("--size <size>", "make the disk larger than the image")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi import debian.raw debian
  xz -dc debian.raw.xz | kelpie vdi import - debian --size 20G`,
    )
    .action((file: string, name: string, options: ImportOptions, command: Command) => {
      const sizeBytes = options.size === undefined ? undefined : parseSize(options.size);
      return cli.onStore(
        command,
        async (session, printer) => {
          const image = await openImage(cli.context, file);
          let entry: VdiEntry;
          try {
            if (options.raw !== true) refuseForeign(image, { file, name, session });
            entry = await importImage(image, { cli, session, name, sizeBytes });
          } finally {
            await image.close();
          }
          await printer.print(entry, () => describe(entry));
          return 0;
        },
        { create: true },
      );
    });
}

interface Image {
  /** Undefined for a stream. */
  sizeBytes: number | undefined;
  head: Uint8Array;
  tail: Uint8Array;
  pieces: AsyncIterable<Piece>;
  close(): Promise<void>;
}

async function openImage(context: CliContext, file: string): Promise<Image> {
  if (file === "-") return openStream(context.stdin);
  const { files } = context.host;
  const stat = await files.stat(file).catch((error: unknown) => {
    if (!isKelpieError(error, "not-found")) throw error;
    throw new KelpieError("not-found", `there is no file ${file}`, { cause: error });
  });
  if (stat.kind !== "file") {
    const what = stat.kind === "directory" ? "a directory" : "not a regular file";
    throw new KelpieError("invalid", `${file}: it is ${what}`, {
      remedy: stat.kind === "directory" ? "name a file" : `use - and < ${shellWord(file)}`,
    });
  }
  const handle = await files.open(file, { access: "read" });
  const { sizeBytes } = stat;
  const tailAt = Math.max(sizeBytes - tailBytes, 0);
  return {
    sizeBytes,
    head: await readPart(handle, 0, Math.min(headBytes, sizeBytes)),
    tail: await readPart(handle, tailAt, sizeBytes - tailAt),
    pieces: readAhead(cut([{ offset: 0, length: sizeBytes }]), async ({ offset, length }) => {
      const bytes = await readPart(handle, offset, length);
      if (bytes.length === length) return { offset, bytes };
      throw new KelpieError("io", `${file}: it became shorter while it was read`);
    }),
    close: () => handle.close(),
  };
}

async function openStream(stream: AsyncIterable<Uint8Array>): Promise<Image> {
  const pieces = piecesOf(stream);
  const first = await pieces.next();
  const begin = first.done === true ? [] : [first.value];
  return {
    sizeBytes: undefined,
    head: begin[0]?.bytes.subarray(0, headBytes) ?? new Uint8Array(0),
    // The end of a stream is known when it is too late to refuse it: a fixed VHD passes.
    tail: new Uint8Array(0),
    pieces: (async function* () {
      yield* begin;
      yield* pieces;
    })(),
    async close() {
      await pieces.return(undefined);
    },
  };
}

async function readPart(handle: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  return bytes.subarray(0, await handle.read(bytes, offset));
}

interface Job {
  cli: Cli;
  session: Session;
  name: string;
  /** What was asked for; else the image decides. */
  sizeBytes: number | undefined;
}

async function importImage(image: Image, job: Job): Promise<VdiEntry> {
  const { session, name } = job;
  const { control } = session;
  const imageBytes = image.sizeBytes;
  if (imageBytes === 0) throw emptyImage(name);
  const wanted = job.sizeBytes ?? imageBytes;
  if (imageBytes !== undefined && imageBytes > (wanted ?? 0)) throw doesNotFit(name);
  const sizeBytes = wanted === undefined ? growthBytesMin : roundUp(wanted);
  await control.call("vdi.create", { name, sizeBytes });
  const line = createProgressLine(job.cli.context, `import ${printable(name)}`);
  const copy: Copy = { ...job, line, totalBytes: imageBytes ?? 0 };
  try {
    const copying =
      wanted === undefined
        ? copyGrowing(image.pieces, copy)
        : withDevice(session, name, (device) => copyInto(device, image.pieces, copy));
    const copied = await copying.finally(line.done);
    if (copied === 0) throw emptyImage(name);
    if (wanted === undefined) {
      const fitting = { name, sizeBytes: roundUp(copied), shrink: true };
      await control.call("vdi.resize", fitting);
    }
    const entries = await control.call("vdi.list", { name });
    const entry = entries.find(({ kind }) => kind === "working");
    if (entry === undefined) throw new KelpieError("not-found", `${name}: somebody deleted it`);
    return entry;
  } catch (error) {
    await removePartial(job);
    throw error;
  }
}

interface Copy extends Job {
  line: ProgressLine;
  /** 0 if it is not known. */
  totalBytes: number;
}

/**
 * A stream's length shows at its end: the disk grows with it, a step ahead of its data. It is opened
 * again for each step, because a connection keeps the size that it began with.
 */
async function copyGrowing(stream: AsyncIterable<Piece>, copy: Copy): Promise<number> {
  const { session, name } = copy;
  const pieces = stream[Symbol.asyncIterator]();
  let next = await pieces.next();
  let sizeBytes = growthBytesMin;
  let doneBytes = 0;
  async function* upTo(end: number): AsyncGenerator<Piece> {
    for (; next.done !== true; next = await pieces.next()) {
      if (next.value.offset + next.value.bytes.length > end) return;
      yield next.value;
    }
  }
  for (;;) {
    const part = upTo(sizeBytes);
    doneBytes = await withDevice(session, name, (device) =>
      copyInto(device, part, copy, doneBytes),
    );
    if (next.done === true) return doneBytes;
    if (sizeBytes === deviceBytesMax) throw doesNotFit(name);
    const growth = Math.max(growthBytesMin, roundUp(sizeBytes * growthShare));
    sizeBytes = Math.min(sizeBytes + growth, deviceBytesMax);
    await session.control.call("vdi.resize", { name, sizeBytes, shrink: false });
  }
}

/** Whole pieces, and so many that a step costs nothing beside its data. */
const growthBytesMin = 64 * pieceBytes;
/** Of what there is already: some hundred steps up to the largest disk. */
const growthShare = 1 / 8;

/** Returns where the copied bytes end. */
async function copyInto(
  device: BlockDevice,
  pieces: AsyncIterable<Piece>,
  { cli, name, line, totalBytes }: Copy,
  startBytes = 0,
): Promise<number> {
  const { signal } = cli.context;
  let doneBytes = startBytes;
  await forEachInFlight(pieces, async ({ offset, bytes }) => {
    signal.throwIfAborted();
    if (offset + bytes.length > device.sizeBytes) throw doesNotFit(name);
    const whole = bytes.length - (bytes.length % 512);
    await writeSparse(device, bytes.subarray(0, whole), offset);
    // Only the last piece of an odd file has a rest.
    if (whole < bytes.length) await writeBytes(device, bytes.subarray(whole), offset + whole);
    doneBytes += bytes.length;
    line.update({ doneBytes, totalBytes });
  });
  await device.flush();
  return doneBytes;
}

/** Half a disk looks like a disk. It goes where deleted disks go, and the name is free again. */
async function removePartial({ cli, session, name }: Job): Promise<void> {
  try {
    // Not with the command's signal: it may be what stopped us.
    const signal = new AbortController().signal;
    await session.control.call("vdi.delete", { name }, { signal });
  } catch {
    // The first failure is the one to report; this one leaves something to say.
    await cli.context.stderr.write(`kelpie: ${printable(name)} is incomplete: delete it\n`);
  }
}

interface Refusal {
  file: string;
  name: string;
  session: Session;
}

function refuseForeign(image: Image, refusal: Refusal): void {
  const format = detectImageFormat(image.head, image.tail);
  if (format === undefined) return;
  const { file } = refusal;
  const what = format.unpack === undefined ? "image, not a raw one" : "file";
  throw new KelpieError("invalid", `${file}: it is a ${format.name} ${what}`, {
    remedy: `${conversion(format, refusal)}\n(--raw imports it as it is)`,
  });
}

/** Commands that get the image in, as they have to be typed. */
function conversion(format: ImageFormat, { file, name, session }: Refusal): string {
  const disk = shellWord(name);
  if (format.unpack !== undefined) {
    const source = file === "-" ? "" : ` ${shellWord(file)}`;
    return `${format.unpack} -dc${source} | kelpie vdi import - ${disk}`;
  }
  const uri = session.server?.nbd.toSorted().at(0);
  const source = file === "-" ? `IMAGE.${format.qemu}` : shellWord(file);
  if (uri === undefined || format.virtualBytes === undefined) {
    const raw = shellWord(file === "-" ? "IMAGE.raw" : `${file}.raw`);
    return `qemu-img convert -O raw -f ${format.qemu} ${source} ${raw}
kelpie vdi import ${raw} ${disk}`;
  }
  const target = formatNbdUri({ ...parseNbdUri(uri), exportName: name });
  return `kelpie vdi create ${disk} ${exactSize(roundUp(format.virtualBytes))}
qemu-img convert -n -O raw -f ${format.qemu} ${source} ${shellWord(target)}`;
}

function describe(entry: VdiEntry): string {
  const { name, sizeBytes, mappedBytes } = entry;
  return `${printable(name)}: imported, ${formatSize(sizeBytes)}, ${formatSize(mappedBytes)} of data`;
}

function emptyImage(name: string): KelpieError {
  return new KelpieError("invalid", `${printable(name)}: the image is empty`);
}

function doesNotFit(name: string): KelpieError {
  return new KelpieError("invalid", `${printable(name)}: the image is larger than the disk`, {
    remedy: "leave --size out, and the disk is as large as the image",
  });
}
