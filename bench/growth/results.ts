import { readFile, rename, writeFile } from "node:fs/promises";
import type { GrowthReport, GrowthRow, Level } from "./growth.ts";

/** Levels measured, in a file, so that a run that was interrupted goes on where it was. */
export class GrowthResults {
  readonly #file: string;
  readonly #rows = new Map<string, GrowthRow>();

  /** None if there is no such file. */
  static async open(file: string): Promise<GrowthResults> {
    const results = new GrowthResults(file);
    const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return '{ "rows": [] }';
      throw error;
    });
    const { rows } = JSON.parse(text) as GrowthReport;
    for (const row of rows) results.#rows.set(keyOf(row), row);
    return results;
  }

  private constructor(file: string) {
    this.#file = file;
  }

  has(level: Level): boolean {
    return this.#rows.has(keyOf(level));
  }

  /** By size first; in ascending order. */
  get report(): GrowthReport {
    const rows = [...this.#rows.values()].sort(
      (a, b) => a.by.localeCompare(b.by) || a.sizeBytes - b.sizeBytes || a.snapshots - b.snapshots,
    );
    return { rows };
  }

  /** In the place of what was measured there before. Whole or not at all, whenever it is interrupted. */
  async add(row: GrowthRow): Promise<void> {
    this.#rows.set(keyOf(row), row);
    const unnamed = `${this.#file}.tmp`;
    await writeFile(unnamed, `${JSON.stringify(this.report, undefined, 2)}\n`);
    await rename(unnamed, this.#file);
  }
}

function keyOf({ by, sizeBytes, snapshots }: Level): string {
  return `${by} ${sizeBytes} ${snapshots}`;
}
