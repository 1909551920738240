import type { FileHandle, Files } from "../../host/files.ts";
import { parentOf } from "../paths.ts";
import type { SpareFiles } from "./spare-files.ts";

/** The files of one log's segments: its directory, which is made when it is needed, and new ones in it. */
export class SegmentFiles {
  readonly #settings: { directory: string; fileName: (number: number) => string };
  readonly #files: Files;
  readonly #spares: SpareFiles;
  readonly #toSync = new Set<string>();
  #directoryMade = false;

  constructor(
    settings: { directory: string; fileName: (number: number) => string },
    components: { files: Files; spares: SpareFiles },
  ) {
    this.#settings = settings;
    this.#files = components.files;
    this.#spares = components.spares;
  }

  /** A file for the segment; `isReused` if it is a spare one, which still holds something else. */
  async open(number: number): Promise<{ handle: FileHandle; isReused: boolean }> {
    const path = `${this.#settings.directory}/${this.#settings.fileName(number)}`;
    const isReused = await this.#spares.take(path);
    const handle = await this.#files.open(path, { access: isReused ? "write" : "create" });
    return { handle, isReused };
  }

  async makeDirectory(): Promise<void> {
    if (this.#directoryMade) return;
    const { directory } = this.#settings;
    const parent = parentOf(directory);
    // It may have been made by an attempt that came no further, and the one above it by another log.
    this.#toSync.add(parentOf(parent)).add(parent);
    for (const made of await this.#files.makeDirectory(directory)) this.#toSync.add(parentOf(made));
    // Durability: a log's directory must be there before anything in it can count. Top first.
    for (const path of [...this.#toSync].sort()) await this.#files.syncDirectory(path);
    this.#directoryMade = true;
  }

  /** Makes the names of all files that are there durable. */
  syncNames(): Promise<void> {
    return this.#files.syncDirectory(this.#settings.directory);
  }
}
