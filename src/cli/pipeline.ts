/** Bytes that belong at an offset. */
export interface Piece {
  offset: number;
  bytes: Uint8Array;
}

export interface Range {
  offset: number;
  length: number;
}

/** What one request moves: large enough to cost little per byte, small enough to have several. */
export const pieceBytes = 2 ** 20;

/** How many pieces are on their way at once; 8 MiB keep a local disk and a socket busy. */
export const piecesInFlight = 8;

/** Cuts ranges into pieces. */
export async function* cut(ranges: AsyncIterable<Range> | Iterable<Range>): AsyncGenerator<Range> {
  for await (const { offset, length } of ranges) {
    for (let done = 0; done < length; done += pieceBytes) {
      yield { offset: offset + done, length: Math.min(pieceBytes, length - done) };
    }
  }
}

/** The results of `task` over `items`, in order, with several of them begun ahead of the reader. */
export async function* readAhead<Item, Result>(
  items: AsyncIterable<Item>,
  task: (item: Item) => Promise<Result>,
): AsyncGenerator<Result> {
  const begun: Promise<Result>[] = [];
  try {
    for await (const item of items) {
      const result = task(item);
      // It may fail while we wait for the next item; it is reported when it is its turn.
      result.catch(() => {});
      begun.push(result);
      if (begun.length < piecesInFlight) continue;
      yield await (begun.shift() as Promise<Result>);
    }
    while (begun.length > 0) yield await (begun.shift() as Promise<Result>);
  } finally {
    // After a failure nobody asks for the rest; it must not be in flight when we return.
    await Promise.allSettled(begun);
  }
}

/** Runs `task` over `items`, several at once; the first failure stops it and is thrown. */
export async function forEachInFlight<Item>(
  items: AsyncIterable<Item>,
  task: (item: Item) => Promise<void>,
): Promise<void> {
  for await (const _ of readAhead(items, task)) {
    // Only their end counts.
  }
}

/** The parts of `bytes` that are not blocks of zeros. */
export function* nonZeroRuns(bytes: Uint8Array): Generator<{ start: number; end: number }> {
  let start = -1;
  for (let block = 0; block < bytes.length; block += zeroBlock.length) {
    const end = Math.min(block + zeroBlock.length, bytes.length);
    const zero = zeroBlock.compare(bytes, block, end, 0, end - block) === 0;
    if (zero && start >= 0) {
      yield { start, end: block };
      start = -1;
    } else if (!zero && start < 0) {
      start = block;
    }
  }
  if (start >= 0) yield { start, end: bytes.length };
}

/** The unit in which holes are found: a block of the store, and of most file systems. */
const zeroBlock = Buffer.alloc(4096);

/**
 * A stream of bytes in pieces, each of the full length but the last, and the first if the stream is
 * to begin at `start`: then pieces end where the disk's own do, and no two share a sector.
 */
export async function* piecesOf(
  stream: AsyncIterable<Uint8Array>,
  start = 0,
): AsyncGenerator<Piece> {
  let offset = 0;
  let piece = new Uint8Array(pieceBytes - (start % pieceBytes));
  let filled = 0;
  for await (const chunk of stream) {
    for (let done = 0; done < chunk.length; ) {
      const count = Math.min(chunk.length - done, piece.length - filled);
      piece.set(chunk.subarray(done, done + count), filled);
      done += count;
      filled += count;
      if (filled < piece.length) continue;
      yield { offset, bytes: piece };
      offset += filled;
      piece = new Uint8Array(pieceBytes);
      filled = 0;
    }
  }
  if (filled > 0) yield { offset, bytes: piece.subarray(0, filled) };
}
