import { ByteQueue } from "../base/byte-queue.ts";
import { joinBytes } from "../base/bytes.ts";
import { KelpieError } from "../base/errors.ts";
import { readU32, writeU32 } from "../base/little-endian.ts";

/*
 * What `dog vdi backup` writes and `dog vdi restore` reads, little-endian.
 *
 * Header            Record, of each object that differs
 *   0 4  version 1    0 4  index of the object; 0xffffffff ends the stream
 *   4 4  0x11921192   4 4  where in the object what differs begins
 *                     8 4  how long it is
 *                    12 4  -
 *                    16    the bytes, from the first sector of 512 that differs to the last
 *
 * What is marked with - is zero when written and not looked at when read. Neither the size of the disk nor
 * that of its objects is in it: both must be the same where it is restored.
 */
export const backupHeaderBytes = 8;
export const recordHeaderBytes = 16;
const version = 1;
const magic = 0x11921192;
const endIndex = 0xffff_ffff;

export interface BackupRecord {
  index: number;
  offset: number;
  length: number;
}

export function encodeBackupHeader(): Uint8Array {
  const bytes = new Uint8Array(backupHeaderBytes);
  writeU32(bytes, 0, version);
  writeU32(bytes, 4, magic);
  return bytes;
}

export function encodeRecordHeader({ index, offset, length }: BackupRecord): Uint8Array {
  const bytes = new Uint8Array(recordHeaderBytes);
  writeU32(bytes, 0, index);
  writeU32(bytes, 4, offset);
  writeU32(bytes, 8, length);
  return bytes;
}

export function encodeBackupEnd(): Uint8Array {
  return encodeRecordHeader({ index: endIndex, offset: 0, length: 0 });
}

/** A part of a record's bytes, and where in the object it belongs. */
export interface BackupPiece {
  index: number;
  offset: number;
  bytes: Uint8Array;
}

/**
 * A stream in pieces of at most `pieceBytesMax`. Throws "invalid" for what is no backup, and while it is
 * read for one that ends before its end; whatever comes after the end is not looked at.
 */
export async function openBackup(
  stream: AsyncIterable<Uint8Array>,
  settings: { objectBytes: number; pieceBytesMax: number },
): Promise<AsyncIterable<BackupPiece>> {
  const source = new Source(stream);
  const header = await source.take(backupHeaderBytes);
  if (readU32(header, 4) !== magic) throw invalid("it is no backup of a VDI");
  const found = readU32(header, 0);
  if (found !== version) throw invalid(`it has version ${found}, and known is ${version}`);
  return recordsOf(source, settings);
}

async function* recordsOf(
  source: Source,
  { objectBytes, pieceBytesMax }: { objectBytes: number; pieceBytesMax: number },
): AsyncGenerator<BackupPiece> {
  for (;;) {
    const record = await source.take(recordHeaderBytes);
    const index = readU32(record, 0);
    if (index === endIndex) return;
    const offset = readU32(record, 4);
    const length = readU32(record, 8);
    if (offset + length > objectBytes) {
      throw invalid(`object ${index} has more than ${objectBytes} bytes`);
    }
    for (let done = 0; done < length; ) {
      const count = Math.min(length - done, pieceBytesMax);
      yield { index, offset: offset + done, bytes: await source.take(count) };
      done += count;
    }
  }
}

/** A stream of chunks as a source of so many bytes. */
class Source {
  readonly #queue = new ByteQueue();
  readonly #chunks: AsyncIterator<Uint8Array>;

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async take(count: number): Promise<Uint8Array> {
    while (this.#queue.byteLength < count) {
      const next = await this.#chunks.next();
      if (next.done === true) throw invalid("it ends before its end");
      this.#queue.push(next.value);
    }
    return joinBytes(this.#queue.take(count));
  }
}

function invalid(why: string): KelpieError {
  return new KelpieError("invalid", `the input cannot be restored: ${why}`);
}
