import { messageOf } from "../base/errors.ts";
import type { Exports, OpenExport } from "../block/exports.ts";
import type { Log } from "../host/log.ts";

/**
 * The export that a handshake is about. Clients name it several times (for contexts, for
 * information, to go): it is opened once, and closed when another one is named or the client leaves.
 */
export class ExportChoice {
  readonly #components: { exports: Exports; peer: string; log: Log };
  #requestedName = "";
  #opened: OpenExport | undefined;

  constructor(components: { exports: Exports; peer: string; log: Log }) {
    this.#components = components;
  }

  /** Throws what `Exports.open` throws. The empty name means the only export there is. */
  async open(name: string): Promise<OpenExport> {
    if (this.#opened !== undefined && this.#requestedName === name) return this.#opened;
    await this.close();
    const { exports, peer } = this.#components;
    const opened = await exports.open(await this.#resolve(name), { protocol: "nbd", peer });
    this.#requestedName = name;
    this.#opened = opened;
    return opened;
  }

  /** Gives the export away: whoever takes it closes it. */
  take(): OpenExport | undefined {
    const opened = this.#opened;
    this.#opened = undefined;
    return opened;
  }

  async close(): Promise<void> {
    const opened = this.take();
    if (opened !== undefined) await closeExport(opened, this.#components.log);
  }

  async #resolve(name: string): Promise<string> {
    if (name !== "") return name;
    const listed = await this.#components.exports.list();
    return listed.length === 1 && listed[0] !== undefined ? listed[0].name : name;
  }
}

/** A failure to close is no business of the client, who has gone or goes on: it is only logged. */
export async function closeExport(opened: OpenExport, log: Log): Promise<void> {
  try {
    await opened.close();
  } catch (error) {
    log.error("closing an export failed", { export: opened.name, error: messageOf(error) });
  }
}
