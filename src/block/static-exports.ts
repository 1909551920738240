import { KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "./block-device.ts";
import type { ExportClient, ExportSummary, Exports, OpenExport } from "./exports.ts";

export interface StaticExport {
  device: BlockDevice;
  description?: string;
}

/** A fixed set of named devices. It does not close them: whoever made them does. */
export class StaticExports implements Exports {
  readonly #exports: ReadonlyMap<string, StaticExport>;
  readonly #clients = new Map<string, ExportClient[]>();

  constructor(exports: ReadonlyMap<string, StaticExport>) {
    this.#exports = exports;
  }

  async list(): Promise<ExportSummary[]> {
    return [...this.#exports].map(([name, { description }]) => ({
      name,
      description: description ?? "",
    }));
  }

  async open(name: string, client: ExportClient): Promise<OpenExport> {
    const found = this.#exports.get(name);
    if (found === undefined) throw new KelpieError("not-found", `there is no disk "${name}"`);
    const clients = this.#clients.get(name) ?? [];
    this.#clients.set(name, clients);
    clients.push(client);
    return {
      name,
      description: found.description ?? "",
      device: found.device,
      async close() {
        const index = clients.indexOf(client);
        if (index < 0) throw new KelpieError("closed", `"${name}" was closed twice`);
        clients.splice(index, 1);
      },
    };
  }

  /** Who has this export open. */
  clients(name: string): readonly ExportClient[] {
    return this.#clients.get(name) ?? [];
  }
}
