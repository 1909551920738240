import { createHash } from "node:crypto";
import type { Inode, MemoryDisk } from "../../sim/memory-disk.ts";

/** The same for two disks that hold the same names and contents. */
export function fingerprintOf(disk: MemoryDisk): string {
  const hash = createHash("sha1");
  walk(disk.find("/"), "", (path, bytes) => {
    hash.update(`${path}\0${bytes === undefined ? "directory" : bytes.length}\0`);
    if (bytes !== undefined) hash.update(bytes);
  });
  return hash.digest("base64");
}

function walk(
  inode: Inode,
  path: string,
  visit: (path: string, bytes: Uint8Array | undefined) => void,
): void {
  if (inode.kind === "file") {
    const bytes = new Uint8Array(inode.sizeBytes);
    inode.read(bytes, 0);
    visit(path, bytes);
    return;
  }
  visit(path, undefined);
  for (const name of [...inode.entries.keys()].sort()) {
    walk(inode.entries.get(name) as Inode, `${path}/${name}`, visit);
  }
}
