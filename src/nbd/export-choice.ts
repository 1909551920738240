import { messageOf } from "../base/errors.ts";
import type { ExportClient, Exports, OpenExport } from "../block/exports.ts";
import type { Log } from "../host/log.ts";

interface ChoiceComponents {
  exports: Exports;
  /** What is known of who asks, by now. */
  client(): ExportClient;
  log: Log;
}

/**
 * The export that a handshake is about. Clients name it several times (for contexts, for
 * information, to go): it is opened once, and closed when another one is named or the client leaves.
 */
export class ExportChoice {
  readonly #components: ChoiceComponents;
  #requestedName = "";
  #opened: OpenExport | undefined;

  constructor(components: ChoiceComponents) {
    this.#components = components;
  }

  /** Throws what `Exports.open` throws. The empty name means the only export there is. */
  async open(name: string): Promise<OpenExport> {
    if (this.#opened !== undefined && this.#requestedName === name) return this.#opened;
    await this.close();
    const { exports, client } = this.#components;
    const opened = await exports.open(await this.#resolve(name), client());
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
    const { exports, client } = this.#components;
    const listed = await exports.list(client());
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
