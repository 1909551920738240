import { KelpieError, messageOf } from "../base/errors.ts";
import { AccessRules } from "../block/access-rules.ts";
import type { Exports } from "../block/exports.ts";
import { RestrictedExports } from "../block/restricted-exports.ts";
import type { CliContext } from "./context.ts";

/** The rules of who may open which disk, as they were when their file was read last. */
export class AccessFile {
  readonly path: string;
  readonly #host: CliContext["host"];
  #rules: AccessRules;

  /** Throws what reading the file throws, and "invalid" for a line that is no rule. */
  static async load({ host }: CliContext, path: string): Promise<AccessFile> {
    return new AccessFile(host, path, await readRules(host, path));
  }

  private constructor(host: CliContext["host"], path: string, rules: AccessRules) {
    this.#host = host;
    this.path = path;
    this.#rules = rules;
  }

  /** Throws "invalid" if certificates are in the rules and clients are not asked for any. */
  mustSeeCertificates(verifyPeer: boolean): void {
    if (verifyPeer || !this.#rules.namesCertificates) return;
    const message = `${this.path}: cert= counts only where clients must show a certificate`;
    throw new KelpieError("invalid", message, { remedy: "add --tls-dir DIR --tls-verify-peer" });
  }

  /** Who has a disk open keeps it. If it fails the old rules stay. */
  async reload(): Promise<void> {
    const { log } = this.#host;
    try {
      this.#rules = await readRules(this.#host, this.path);
      log.info("access rules read again", { path: this.path });
    } catch (error) {
      log.error("access rules not read again: the old ones stay", { error: messageOf(error) });
    }
  }

  restrict(exports: Exports): Exports {
    return new RestrictedExports(() => this.#rules, { exports, log: this.#host.log });
  }
}

async function readRules({ files }: CliContext["host"], path: string): Promise<AccessRules> {
  return AccessRules.parse(new TextDecoder().decode(await files.readFile(path)));
}
