import { messageOf } from "../../base/errors.ts";
import type { Files } from "../../host/files.ts";
import type { Log } from "../../host/log.ts";
import { parentOf } from "../paths.ts";
import type { SpaceGuard } from "../space-guard.ts";

/**
 * As much as is appended from one checkpoint to the next: that much becomes free at once, and is needed
 * until the next. It is given back when nothing is written for a while.
 */
const spareFilesMax = 16;

/** Of these so many are for segments: who appends waits for the file, who cleans does not. */
const keptForSegments = 4;

/**
 * Files of segments that nothing needs any more, to be written over by new segments. Their space is
 * allocated and their pages are in memory already: appending to such a file costs half of appending
 * to a new one, and syncing it needs no journal of the file system.
 *
 * What such a file still holds is of another segment, and says so in every header; a new segment's
 * batches are told from it as they are from what a torn write leaves.
 */
export class SpareFiles {
  readonly #directory: string;
  readonly #segmentBytesMax: number;
  readonly #filesMax: number;
  readonly #files: Files;
  readonly #log: Log;
  readonly #space: SpaceGuard;
  #paths: string[] = [];
  #next = 1;
  #isReady = false;
  /** Times that a spare file became a segment. */
  taken = 0;

  constructor(
    settings: { directory: string; segmentBytesMax: number; filesMax?: number },
    components: { files: Files; log: Log; space: SpaceGuard },
  ) {
    this.#directory = settings.directory;
    this.#segmentBytesMax = settings.segmentBytesMax;
    this.#filesMax = settings.filesMax ?? spareFilesMax;
    this.#files = components.files;
    this.#log = components.log;
    this.#space = components.space;
  }

  get count(): number {
    return this.#paths.length;
  }

  /** A file of this size is worth keeping, and there is room for it. */
  isWanted(sizeBytes: number): boolean {
    if (this.#paths.length >= this.#filesMax || sizeBytes < this.#segmentBytesMax / 2) return false;
    return this.#space.freeBytes > this.#space.reserveBytes + spareFilesMax * this.#segmentBytesMax;
  }

  /** Takes the file, which nobody may have open, instead of its being removed. */
  async keep(path: string): Promise<void> {
    if (!this.#isReady) await this.#files.makeDirectory(this.#directory);
    this.#isReady = true;
    const spare = `${this.#directory}/${this.#next++}`;
    await this.#files.rename(path, spare);
    // Durability: the old name must be gone for good before other data stands in the file, or after
    // power loss a segment would be there again with what is not its own.
    await this.#files.syncDirectory(parentOf(path));
    this.#paths.push(spare);
  }

  /** Makes a spare file the file `path`, which must not exist. False if there is none. */
  async take(path: string): Promise<boolean> {
    const spare = this.#paths.pop();
    if (spare === undefined) return false;
    await this.#files.rename(spare, path);
    this.taken++;
    return true;
  }

  /** The same for a cleaned body, which is shorter: its file is cut to its length. */
  async takeForBody(path: string): Promise<boolean> {
    return this.#paths.length > keptForSegments && (await this.take(path));
  }

  /** Gives all their space back. What cannot be removed now is when the store is next opened. */
  async removeAll(): Promise<void> {
    const paths = this.#paths;
    this.#paths = [];
    for (const path of paths) {
      try {
        await this.#files.remove(path);
      } catch (error) {
        this.#log.warn("a spare file could not be removed", { path, error: messageOf(error) });
      }
    }
  }
}

/**
 * Removes what an earlier process kept. They are not used again: after power loss a file may stand here
 * and be a segment as well.
 */
export async function removeSpareFiles(directory: string, files: Files): Promise<void> {
  if (!(await exists(directory, files))) return;
  for (const name of await files.list(directory)) await files.remove(`${directory}/${name}`);
}

async function exists(path: string, files: Files): Promise<boolean> {
  const names = await files.list(parentOf(path));
  return names.includes(path.slice(parentOf(path).length + 1));
}
