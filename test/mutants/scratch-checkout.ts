import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Mutant, plant } from "./mutant.ts";

export const checkout = join(import.meta.dirname, "../..");

/** What tests read of the project. */
const copied = ["bin", "package.json", "scripts", "sim", "src", "test", "tsconfig.json"];

/** A copy of the checkout in which bugs are planted, one at a time. The checkout itself is only read. */
export class ScratchCheckout {
  readonly directory: string;

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), "kelpie-mutants-"));
    for (const name of copied) {
      cpSync(join(checkout, name), join(this.directory, name), { recursive: true });
    }
    symlinkSync(join(checkout, "node_modules"), join(this.directory, "node_modules"));
  }

  /** The copy has this bug until `restore`. */
  plant(mutant: Mutant): void {
    const path = join(this.directory, mutant.file);
    writeFileSync(path, plant(mutant, readFileSync(path, "utf8")));
  }

  restore(mutant: Mutant): void {
    cpSync(join(checkout, mutant.file), join(this.directory, mutant.file));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
