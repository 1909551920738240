import {
  encodeInodeHeader,
  type InodeHeader,
  inodeBytes,
  inodeEntriesAt,
} from "../../../src/sheepdog/wire-inode.ts";

/** {generation, count} of a reference, as servers from 0.9 on keep it beside each entry. */
export interface Reference {
  generation: number;
  count: number;
}

/** An inode of the original, as bytes; what nobody wrote is zeros and takes no memory. */
export class OriginalInode {
  readonly header: Uint8Array;
  #entries = new Uint8Array(0);
  readonly references = new Map<number, Reference>();

  constructor(header: InodeHeader) {
    this.header = encodeInodeHeader(header);
  }

  entry(index: number): number {
    const at = 4 * index;
    if (at + 4 > this.#entries.length) return 0;
    return new DataView(this.#entries.buffer).getUint32(at, true);
  }

  setEntry(index: number, vid: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, vid, true);
    this.write(inodeEntriesAt + 4 * index, bytes);
  }

  /** Of those that are not holes. */
  *used(): Generator<[index: number, vid: number]> {
    for (let index = 0; 4 * index < this.#entries.length; index++) {
      const vid = this.entry(index);
      if (vid !== 0) yield [index, vid];
    }
  }

  reference(index: number): Reference {
    return this.references.get(index) ?? { generation: 0, count: 0 };
  }

  read(offset: number, target: Uint8Array): void {
    target.fill(0);
    copyOverlap(this.header, 0, { target, offset });
    copyOverlap(this.#entries, inodeEntriesAt, { target, offset });
  }

  write(offset: number, bytes: Uint8Array): void {
    if (offset < inodeEntriesAt) {
      const inHeader = bytes.subarray(0, inodeEntriesAt - offset);
      this.header.set(inHeader, offset);
      if (inHeader.length === bytes.length) return;
      this.write(inodeEntriesAt, bytes.subarray(inHeader.length));
      return;
    }
    const at = offset - inodeEntriesAt;
    const end = Math.min(at + bytes.length, inodeBytes - inodeEntriesAt);
    if (end > this.#entries.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#entries.length));
      grown.set(this.#entries);
      this.#entries = grown;
    }
    this.#entries.set(bytes.subarray(0, end - at), at);
  }

  /** What DEL_VDI does: no size, no name, nothing behind the header. */
  clear(): void {
    this.header.fill(0, 0, 256);
    this.header.fill(0, 536, 544);
    this.#entries = new Uint8Array(0);
    this.references.clear();
  }
}

function copyOverlap(
  from: Uint8Array,
  fromAt: number,
  { target, offset }: { target: Uint8Array; offset: number },
): void {
  const start = Math.max(fromAt, offset);
  const end = Math.min(fromAt + from.length, offset + target.length);
  if (start < end) target.set(from.subarray(start - fromAt, end - fromAt), start - offset);
}
