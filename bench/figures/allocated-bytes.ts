import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Of st_blocks, whatever the file system's block size. */
const statBlockBytes = 512;

/** What a directory takes on the file system, as du counts it. Files that vanish meanwhile count nothing. */
export async function allocatedBytes(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) bytes += await allocatedBytes(path);
    else
      bytes += await lstat(path).then(
        ({ blocks }) => blocks * statBlockBytes,
        () => 0,
      );
  }
  return bytes;
}
