/**
 * Formats that virtual disks come in, told by their first and last bytes. A disk in one of these,
 * imported as if it were raw, does not boot; so they are refused.
 * Offsets are those of the formats' own documents: QEMU's docs/interop/qcow2.rst and qed_spec.txt,
 * VMware's "Virtual Disk Format 5.0", MS-VHDX, Microsoft's "Virtual Hard Disk Image Format
 * Specification", VirtualBox's VDICore.h (header at 0x40), RFC 1952, RFC 8878, the xz file format.
 */
export interface ImageFormat {
  /** For people. */
  name: string;
  /** What `qemu-img -f` calls it; undefined if it is a compressed file, not a disk format. */
  qemu: string | undefined;
  /** The program that unpacks it, for compressed files: `PROGRAM -dc FILE`. */
  unpack: string | undefined;
  /** Bytes of the disk inside, if the format says so in a place that is easy to read. */
  virtualBytes: number | undefined;
}

/** How much of the beginning `detectImageFormat` wants to see, if there is as much. */
export const headBytes = 4096;
/** And of the end. */
export const tailBytes = 512;

/** The format of a file, or undefined if it is as good as raw (LUKS, a partition table, a file system). */
export function detectImageFormat(head: Uint8Array, tail: Uint8Array): ImageFormat | undefined {
  const start = Buffer.from(head.buffer, head.byteOffset, head.length);
  const end = Buffer.from(tail.buffer, tail.byteOffset, tail.length);
  return detectDisk(start, end) ?? detectCompressed(start);
}

function detectDisk(head: Buffer, tail: Buffer): ImageFormat | undefined {
  if (has(head, 0, "QFI\xfb")) {
    const old = head.length >= 8 && head.readUInt32BE(4) === 1;
    return disk(old ? "qcow" : "qcow2", old ? "qcow" : "qcow2", u64BE(head, 24));
  }
  if (has(head, 0, "QED\0")) return disk("QED", "qed", u64LE(head, 48));
  if (has(head, 0, "KDMV")) return disk("VMDK", "vmdk", sectors(u64LE(head, 12)));
  if (has(head, 0, "COWD")) return disk("VMDK", "vmdk", undefined);
  if (/^#\s*Disk DescriptorFile/i.test(head.toString("latin1", 0, 64))) {
    return disk("VMDK (its descriptor)", "vmdk", undefined);
  }
  if (has(head, 0, "vhdxfile")) return disk("VHDX", "vhdx", undefined);
  if (has(head, 0x40, "\x7f\x10\xda\xbe")) return disk("VDI", "vdi", u64LE(head, 0x170));
  // A dynamic VHD has a copy of its footer in front; a fixed one has only the footer.
  if (has(head, 0, "conectix")) return disk("VHD", "vpc", u64BE(head, 48));
  if (has(tail, tail.length - tailBytes, "conectix")) {
    return disk("VHD", "vpc", u64BE(tail, tail.length - tailBytes + 48));
  }
  if (has(tail, tail.length - tailBytes, "koly")) return disk("DMG", "dmg", undefined);
  if (has(head, 0, "WithoutFreeSpace") || has(head, 0, "WithouFreSpacExt")) {
    return disk("Parallels", "parallels", undefined);
  }
  return undefined;
}

function detectCompressed(head: Buffer): ImageFormat | undefined {
  const found = compressed.find(({ magic }) => has(head, 0, magic));
  if (found === undefined) return undefined;
  return { name: found.name, qemu: undefined, unpack: found.name, virtualBytes: undefined };
}

const compressed = [
  { magic: "\x1f\x8b\x08", name: "gzip" },
  { magic: "\xfd7zXZ\0", name: "xz" },
  { magic: "\x28\xb5\x2f\xfd", name: "zstd" },
  { magic: "BZh", name: "bzip2" },
];

function disk(name: string, qemu: string, virtualBytes: number | undefined): ImageFormat {
  return { name, qemu, unpack: undefined, virtualBytes };
}

function has(bytes: Buffer, offset: number, magic: string): boolean {
  if (offset < 0 || offset + magic.length > bytes.length) return false;
  return bytes.toString("latin1", offset, offset + magic.length) === magic;
}

function u64BE(bytes: Buffer, offset: number): number | undefined {
  return offset + 8 <= bytes.length ? safe(bytes.readBigUInt64BE(offset)) : undefined;
}

function u64LE(bytes: Buffer, offset: number): number | undefined {
  return offset + 8 <= bytes.length ? safe(bytes.readBigUInt64LE(offset)) : undefined;
}

/** A size beyond what any disk has is a damaged header, and no size to print. */
function safe(value: bigint): number | undefined {
  return value > 0n && value < sizesEnd ? Number(value) : undefined;
}

function sectors(count: number | undefined): number | undefined {
  return count === undefined ? undefined : safe(BigInt(count) * 512n);
}

const sizesEnd = 2n ** 50n;
