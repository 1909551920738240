import type { Command } from "commander";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import { formatSize } from "../base/sizes.ts";
import { type BlockDevice, sectorBytes } from "../block/block-device.ts";
import type { CallOutput } from "../control/calls.ts";
import {
  type BackupPiece,
  encodeBackupEnd,
  encodeBackupHeader,
  encodeRecordHeader,
  openBackup,
} from "./backup-stream.ts";
import type { Cli, GlobalOptions } from "./command.ts";
import { overwrite, roundUp } from "./disk-io.ts";
import { forEachInFlight, type Piece, pieceBytes } from "./pipeline.ts";
import { exportNameOf, type Session } from "./session.ts";
import { checkSnapshot } from "./snapshot-name.ts";
import { printable } from "./text.ts";
import { withDevice } from "./vdi-read.ts";

interface BackupOptions extends GlobalOptions {
  from?: string;
  snapshot: string;
}

export function addBackup(parent: Command, cli: Cli): void {
  parent
    .command("backup")
    .summary("write what changed between two snapshots to standard output")
    .description(
      `Writes what differs between two snapshots to standard output, in the form of dog's vdi backup;
without -F all that the snapshot holds. "vdi restore" takes it, and so does dog's, for a disk with
objects of the same size: 4 MiB, or what the cluster's disk has.`,
    )
    .argument("<name>", "the disk")
    .option("-F, --from <tag>", "tag or id of the older snapshot")
    .requiredOption("-s, --snapshot <tag>", "tag or id of the newer snapshot")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi backup disk1 -s monday > monday
  kelpie vdi backup disk1 -F monday -s tuesday | zstd > tuesday.zst`,
    )
    .action((name: string, _options: object, command: Command) => {
      const options = command.optsWithGlobals<BackupOptions>();
      const to = checkSnapshot(options.snapshot);
      const from = options.from === undefined ? undefined : checkSnapshot(options.from);
      return cli.onStore(command, async (session) => {
        const objectBytes = await objectBytesOf(session, { name, snapshot: to });
        const range = { name, from: from ?? "", to };
        const changed =
          from === undefined ? undefined : await changedObjects(session, range, objectBytes);
        await withDevice(session, exportNameOf(name, to), (newer) =>
          withBase(session, { name, from }, (older) =>
            backup(cli, { older, newer, objectBytes, changed }),
          ),
        );
        return 0;
      });
    });
}

interface RestoreOptions extends GlobalOptions {
  snapshot?: string;
}

export function addRestore(parent: Command, cli: Cli): void {
  parent
    .command("restore")
    .summary("apply a backup from standard input to a disk")
    .description(
      `Reads what "vdi backup", or dog's, has written, and writes it to a disk. With -s the disk is put back
to that snapshot first, as "vdi rollback" does: name the one that -F named. The disk must have the
size it had. It is safe from power loss when the command returns.`,
    )
    .argument("<name>", "the disk")
    .option("-s, --snapshot <tag>", "put it back to this snapshot first")
    .addHelpText(
      "after",
      `
Examples:
  kelpie vdi create new 20G && kelpie vdi restore new < monday
  zstd -dc tuesday.zst | kelpie vdi restore new
  kelpie vdi restore disk1 -s monday < changes`,
    )
    .action((name: string, _options: object, command: Command) => {
      const options = command.optsWithGlobals<RestoreOptions>();
      const base = options.snapshot === undefined ? undefined : checkSnapshot(options.snapshot);
      return cli.onStore(command, async (session, printer) => {
        const point = base === undefined ? { name } : { name, snapshot: base };
        const objectBytes = await objectBytesOf(session, point);
        const { stdin } = cli.context;
        // Looked at before anything is changed.
        const pieces = await openBackup(stdin, { objectBytes, pieceBytesMax: pieceBytes });
        if (base !== undefined) {
          await session.control.call("vdi.rollback", { names: [name], snapshot: base });
        }
        const writtenBytes = await withDevice(session, name, (device) =>
          restore(cli, { device, objectBytes, name, pieces }),
        );
        await printer.print({ name, writtenBytes }, () => {
          return `${printable(name)}: restored ${formatSize(writtenBytes)}`;
        });
        return 0;
      });
    });
}

/** Of a disk that no client of Sheepdog ever asked for, and of the original's if nobody chooses. */
const objectBytesDefault = 4 * 2 ** 20;

async function objectBytesOf(
  { control }: Session,
  point: { name: string; snapshot?: string },
): Promise<number> {
  const { sheepdog } = await control.call("vdi.info", point);
  return sheepdog?.objectBytes ?? objectBytesDefault;
}

async function withBase<T>(
  session: Session,
  { name, from }: { name: string; from: string | undefined },
  body: (device: BlockDevice | undefined) => Promise<T>,
): Promise<T> {
  if (from === undefined) return await body(undefined);
  return await withDevice(session, exportNameOf(name, from), body);
}

interface Backup {
  /** Undefined: nothing, a disk of zeros. */
  older: BlockDevice | undefined;
  newer: BlockDevice;
  objectBytes: number;
  /** Indexes of objects that may differ, in order; undefined: it is not known. */
  changed: AsyncIterable<number> | undefined;
}

/** As the history says, without a look at the data. Undefined: the two have none in common. */
async function changedObjects(
  { control }: Session,
  range: { name: string; from: string; to: string },
  objectBytes: number,
): Promise<AsyncIterable<number> | undefined> {
  const ask = (offset: number) => control.call("vdi.diff", { ...range, offset });
  try {
    return indexesIn(await ask(0), ask, objectBytes);
  } catch (error) {
    if (isKelpieError(error, "invalid")) return undefined;
    throw error;
  }
}

async function* indexesIn(
  first: CallOutput<"vdi.diff">,
  ask: (offset: number) => Promise<CallOutput<"vdi.diff">>,
  objectBytes: number,
): AsyncGenerator<number> {
  let next = 0;
  for (let page = first; ; page = await ask(page.next)) {
    for (const { offset, length } of page.ranges) {
      next = Math.max(next, Math.floor(offset / objectBytes));
      for (; next * objectBytes < offset + length; next++) yield next;
    }
    if (page.next === null) return;
  }
}

function* everyIndex({ sizeBytes }: BlockDevice, objectBytes: number): Generator<number> {
  for (let index = 0; index * objectBytes < sizeBytes; index++) yield index;
}

async function backup(cli: Cli, { older, newer, objectBytes, changed }: Backup): Promise<void> {
  const { stdout, signal } = cli.context;
  await stdout.write(encodeBackupHeader());
  for await (const index of changed ?? everyIndex(newer, objectBytes)) {
    signal.throwIfAborted();
    const start = index * objectBytes;
    const length = Math.min(objectBytes, newer.sizeBytes - start);
    if (older === undefined && (await isHole(newer, start, length))) continue;
    const range = await differingRange({ older, newer }, start, length);
    if (range === undefined) continue;
    const { first, end } = range;
    await stdout.write(encodeRecordHeader({ index, offset: first, length: end - first }));
    for (let at = first; at < end; at += pieceBytes) {
      await stdout.write(await bytesAt(newer, start + at, Math.min(pieceBytes, end - at)));
    }
  }
  await stdout.write(encodeBackupEnd());
}

/** From the first sector that differs up to the end of the last. */
async function differingRange(
  { older, newer }: { older: BlockDevice | undefined; newer: BlockDevice },
  start: number,
  length: number,
): Promise<{ first: number; end: number } | undefined> {
  let found: { first: number; end: number } | undefined;
  for (let at = 0; at < length; at += pieceBytes) {
    const count = Math.min(pieceBytes, length - at);
    const after = await bytesAt(newer, start + at, count);
    const before =
      older === undefined ? new Uint8Array(count) : await bytesAt(older, start + at, count);
    if (Buffer.compare(before, after) === 0) continue;
    for (let sector = 0; sector < count; sector += sectorBytes) {
      const end = Math.min(sector + sectorBytes, count);
      if (Buffer.compare(before.subarray(sector, end), after.subarray(sector, end)) === 0) continue;
      found ??= { first: at + sector, end: 0 };
      found.end = at + end;
    }
  }
  return found;
}

async function isHole(device: BlockDevice, offset: number, length: number): Promise<boolean> {
  const query = { kind: "allocation", offset, length, extentsMax: 1 } as const;
  const [first] = await device.extents(query);
  return first?.value === 1 && first.lengthBytes === length;
}

/** Zeros behind the end of a smaller disk. */
async function bytesAt(device: BlockDevice, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const inside = Math.min(length, device.sizeBytes - offset);
  if (inside > 0) await device.read(bytes.subarray(0, inside), offset);
  return bytes;
}

async function restore(
  cli: Cli,
  what: {
    device: BlockDevice;
    objectBytes: number;
    name: string;
    pieces: AsyncIterable<BackupPiece>;
  },
): Promise<number> {
  const { device, name } = what;
  const { signal } = cli.context;
  let writtenBytes = 0;
  await forEachInFlight(piecesIn(what), async ({ offset, bytes }) => {
    signal.throwIfAborted();
    if (offset + bytes.length > roundUp(device.sizeBytes)) {
      throw new KelpieError("invalid", `${printable(name)}: the backup is of a larger disk`, {
        remedy: "make the disk as large as the one it was taken of",
      });
    }
    await overwrite(device, bytes, offset);
    writtenBytes += bytes.length;
  });
  await device.flush();
  return writtenBytes;
}

async function* piecesIn({
  pieces,
  objectBytes,
}: {
  pieces: AsyncIterable<BackupPiece>;
  objectBytes: number;
}): AsyncGenerator<Piece> {
  for await (const { index, offset, bytes } of pieces) {
    yield { offset: index * objectBytes + offset, bytes };
  }
}
