import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import { parseSize } from "../base/sizes.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { Cli } from "./command.ts";
import { overwrite, readBytes } from "./disk-io.ts";
import { cut, forEachInFlight, type Piece, piecesOf, type Range, readAhead } from "./pipeline.ts";
import { exportNameOf, type Session } from "./session.ts";
import { checkSnapshot } from "./snapshot-name.ts";
import { printable } from "./text.ts";

export function addRead(parent: Command, cli: Cli): void {
  parent
    .command("read")
    .summary("write a disk's bytes to standard output")
    .description("Writes the bytes of a disk, or of a part of it, to standard output.")
    .argument("<name>", "the disk; NAME@TAG for a snapshot of it")
    .argument("[offset]", "where to begin; 0 if it is not given")
    .argument("[length]", "how much; up to the end if it is not given")
    .option("-s, --snapshot <tag>", "tag or id of a snapshot")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi read disk1 0 512 | xxd
  kelpie vdi read disk1 1M 64k -s monday > part`,
    )
    .action(
      (
        name: string,
        offset: string | undefined,
        length: string | undefined,
        options: { snapshot?: string },
        command: Command,
      ) => {
        const wanted = parseRange(offset, length);
        const snapshot =
          options.snapshot === undefined ? undefined : checkSnapshot(options.snapshot);
        return cli.onStore(command, (session) =>
          withDevice(session, exportNameOf(name, snapshot), async (device) => {
            const range = rangeInside(device, wanted, name);
            const pieces = readAhead(cut([range]), (piece) => readBytes(device, piece));
            for await (const bytes of pieces) {
              cli.context.signal.throwIfAborted();
              await cli.context.stdout.write(bytes);
            }
            return 0;
          }),
        );
      },
    );
}

export function addWrite(parent: Command, cli: Cli): void {
  parent
    .command("write")
    .summary("write standard input to a disk")
    .description(
      `Writes standard input to a disk, over what is there, up to its end or for LENGTH bytes. It is safe
from power loss when the command returns. "vdi import" makes a new disk instead.`,
    )
    .argument("<name>", "the disk")
    .argument("[offset]", "where to begin; 0 if it is not given")
    .argument("[length]", "how much; the input must have as much")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi write disk1 < boot.img
  head -c 512 /dev/zero | kelpie vdi write disk1 0 512`,
    )
    .action(
      (
        name: string,
        offset: string | undefined,
        length: string | undefined,
        _options: object,
        command: Command,
      ) => {
        const wanted = parseRange(offset, length);
        return cli.onStore(command, (session, printer) =>
          withDevice(session, name, async (device) => {
            const range = rangeInside(device, wanted, name);
            const exact = wanted.length !== undefined;
            const input = limited(cli.context.stdin, { range, exact, name });
            let writtenBytes = 0;
            await forEachInFlight(input, async ({ offset: within, bytes }) => {
              cli.context.signal.throwIfAborted();
              await overwrite(device, bytes, range.offset + within);
              writtenBytes += bytes.length;
            });
            await device.flush();
            await printer.print({ name, offset: range.offset, writtenBytes }, () => "");
            return 0;
          }),
        );
      },
    );
}

export async function withDevice<T>(
  session: Session,
  exportName: string,
  body: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  const opened = await session.openDevice(exportName);
  try {
    return await body(opened.device);
  } finally {
    await opened.close();
  }
}

interface WantedRange {
  offset: number;
  length: number | undefined;
}

function parseRange(offset: string | undefined, length: string | undefined): WantedRange {
  return {
    offset: offset === undefined ? 0 : parseSize(offset),
    length: length === undefined ? undefined : parseSize(length),
  };
}

function rangeInside(device: BlockDevice, wanted: WantedRange, name: string): Range {
  const { offset } = wanted;
  const length = wanted.length ?? Math.max(device.sizeBytes - offset, 0);
  if (offset + length <= device.sizeBytes && offset <= device.sizeBytes) return { offset, length };
  throw new KelpieError(
    "invalid",
    `${printable(name)}: ${length} bytes at ${offset} reach past its end at ${device.sizeBytes}`,
  );
}

interface Limit {
  range: Range;
  /** The input must have the whole length. */
  exact: boolean;
  name: string;
}

/** The input in pieces, as far as the range goes. What has no room is an error, before it is written. */
async function* limited(
  stream: AsyncIterable<Uint8Array>,
  { range, exact, name }: Limit,
): AsyncGenerator<Piece> {
  let length = 0;
  for await (const piece of piecesOf(stream, range.offset)) {
    const room = range.length - length;
    if (piece.bytes.length > room && !exact) {
      throw new KelpieError("invalid", `${printable(name)}: the input is longer than the disk`, {
        remedy: `it was written up to ${range.offset + length}; a LENGTH writes only that much`,
      });
    }
    const bytes = piece.bytes.subarray(0, room);
    length += bytes.length;
    if (bytes.length > 0) yield { offset: piece.offset, bytes };
    if (length === range.length && exact) return;
  }
  if (!exact || length === range.length) return;
  throw new KelpieError(
    "invalid",
    `${printable(name)}: the input ended after ${length} of ${range.length} bytes`,
  );
}
