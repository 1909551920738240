/** A file for a tar. */
export interface TarFile {
  /** Relative path, with slashes. */
  path: string;
  content: Uint8Array;
}

const blockBytes = 512;

/** A POSIX ustar archive of regular files. Throws if a path is longer than the format allows. */
export function writeTar(files: readonly TarFile[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const { path, content } of files) {
    const padding = Buffer.alloc(-content.length & (blockBytes - 1));
    parts.push(headerOf(path, content.length), content, padding);
  }
  // Two empty blocks end an archive.
  parts.push(Buffer.alloc(2 * blockBytes));
  return Buffer.concat(parts);
}

/**
 * The content of one file of an archive that `read` gives pieces of, or undefined if it is not in it.
 * What does not begin like an archive has no files.
 */
export async function readTarFile(
  read: (offset: number, length: number) => Promise<Buffer>,
  path: string,
): Promise<Buffer | undefined> {
  for (let offset = 0; ; ) {
    const header = await read(offset, blockBytes);
    if (header.toString("latin1", 257, 262) !== "ustar") return undefined;
    const length = Number.parseInt(header.toString("latin1", 124, 135), 8);
    const [prefix, name] = [textAt(header, 345, 155), textAt(header, 0, 100)];
    offset += blockBytes;
    if ((prefix === "" ? name : `${prefix}/${name}`) === path) return read(offset, length);
    offset += Math.ceil(length / blockBytes) * blockBytes;
  }
}

/** POSIX.1-1988 ustar: numbers are octal text, the checksum counts its own field as spaces. */
function headerOf(path: string, sizeBytes: number): Buffer {
  const { prefix, name } = splitPath(path);
  const header = Buffer.alloc(blockBytes);
  header.write(name, 0);
  header.write("0000644\0", 100); // mode
  header.write("0000000\0", 108); // owner
  header.write("0000000\0", 116); // group
  header.write(`${sizeBytes.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136); // when it was changed: the same files give the same archive
  header.write("        ", 148);
  header.write("0", 156); // a regular file
  header.write("ustar\0", 257);
  header.write("00", 263);
  header.write(prefix, 345);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

/** A path of up to 100 bytes is a name; a longer one is split at a slash. */
function splitPath(path: string): { prefix: string; name: string } {
  if (Buffer.byteLength(path) <= 100) return { prefix: "", name: path };
  for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (Buffer.byteLength(name) <= 100 && Buffer.byteLength(prefix) <= 155) return { prefix, name };
  }
  throw new Error(`${path} is too long for a ustar archive`);
}

function textAt(bytes: Buffer, offset: number, length: number): string {
  const end = bytes.indexOf(0, offset);
  return bytes.toString("utf8", offset, Math.min(offset + length, end === -1 ? Infinity : end));
}
