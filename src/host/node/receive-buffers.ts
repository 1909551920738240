/**
 * Memory that sockets receive into, used again as soon as it is given back. Memory that is new each time
 * has to be mapped and cleared by the kernel, which costs more than receiving does.
 */
export class ReceiveBuffers {
  readonly #free: Loan[] = [];
  readonly #loans = new WeakMap<ArrayBufferLike, Loan>();

  /** A place to receive into, for one socket at a time. */
  take(): Receiving {
    return new Receiving(this);
  }

  /** `count` bytes of the memory that `chunk` is part of are not needed any more. */
  release(chunk: Uint8Array, count: number): void {
    const loan = this.#loans.get(chunk.buffer);
    if (loan === undefined) return; // memory of somebody else's
    loan.outstandingBytes -= count;
    this.reclaim(loan);
  }

  /** For `Receiving`: memory of which nothing is in use. */
  borrow(): Loan {
    const loan = this.#free.pop() ?? new Loan();
    loan.receiving = true;
    this.#loans.set(loan.bytes.buffer, loan);
    return loan;
  }

  reclaim(loan: Loan): void {
    if (loan.outstandingBytes > 0 || loan.receiving) return;
    loan.usedBytes = 0;
    if (this.#free.length < freeBuffersMax) this.#free.push(loan);
  }
}

/** As much as a peer with 32 writes of 4 KiB on their way sends at once. */
const bufferBytes = 160 * 1024;
/** With less room than this left, a new buffer is begun: a read should bring as much as there is. */
const roomBytesMin = 64 * 1024;
/** 10 MiB that are kept for whoever comes next. */
const freeBuffersMax = 64;

/** One buffer, and how much of it is in use. */
class Loan {
  readonly bytes = Buffer.allocUnsafeSlow(bufferBytes);
  /** Received, from the start. */
  usedBytes = 0;
  /** Received and not given back. Who never gives back leaves the buffer to the garbage collector. */
  outstandingBytes = 0;
  /** A socket receives into it. */
  receiving = false;
}

/** Where one socket receives. */
class Receiving {
  readonly #buffers: ReceiveBuffers;
  #loan: Loan;

  constructor(buffers: ReceiveBuffers) {
    this.#buffers = buffers;
    this.#loan = buffers.borrow();
  }

  /** The room for the next bytes. */
  room(): Uint8Array {
    const loan = this.#loan;
    if (loan.outstandingBytes === 0) {
      loan.usedBytes = 0;
    } else if (bufferBytes - loan.usedBytes < roomBytesMin) {
      this.end();
      this.#loan = this.#buffers.borrow();
    }
    return this.#loan.bytes.subarray(this.#loan.usedBytes);
  }

  /** The chunk that has arrived in `room`. */
  received(countBytes: number): Uint8Array {
    const loan = this.#loan;
    const start = loan.usedBytes;
    loan.usedBytes += countBytes;
    loan.outstandingBytes += countBytes;
    return loan.bytes.subarray(start, loan.usedBytes);
  }

  /** Copies bytes that came another way behind the last chunk of a list, or into one more. */
  append(bytes: Uint8Array, chunks: Uint8Array[]): void {
    for (let start = 0; start < bytes.length; ) {
      const room = this.room();
      const some = bytes.subarray(start, start + room.length);
      room.set(some);
      start += some.length;
      const chunk = this.received(some.length);
      const last = chunks.at(-1);
      const follows =
        last?.buffer === chunk.buffer && last.byteOffset + last.length === chunk.byteOffset;
      if (follows) chunks[chunks.length - 1] = joined(last, chunk);
      else chunks.push(chunk);
    }
  }

  /** Nothing more is received into it. */
  end(): void {
    this.#loan.receiving = false;
    this.#buffers.reclaim(this.#loan);
  }
}

/** Two that stand side by side in the same memory. */
function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  return Buffer.from(first.buffer, first.byteOffset, first.length + second.length);
}

export type { Receiving };
