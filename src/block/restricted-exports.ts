import { KelpieError } from "../base/errors.ts";
import type { Log } from "../host/log.ts";
import type { AccessRules, Right } from "./access-rules.ts";
import type { ExportClient, ExportSummary, Exports, OpenExport } from "./exports.ts";
import { readOnlyDevice } from "./read-only.ts";

/**
 * Exports by rules. Who may not open a disk is not told whether there is one, neither by a list nor by
 * trying. Rules count when a disk is opened: who has it open keeps it when they change.
 */
export class RestrictedExports implements Exports {
  readonly #rules: () => AccessRules;
  readonly #exports: Exports;
  readonly #log: Log;

  /** The rules are asked for each time, so that they can be replaced. */
  constructor(rules: () => AccessRules, components: { exports: Exports; log: Log }) {
    this.#rules = rules;
    this.#exports = components.exports;
    this.#log = components.log;
  }

  async list(client?: ExportClient): Promise<ExportSummary[]> {
    if (client === undefined) return []; // whoever that is
    const rules = this.#rules();
    const listed = await this.#exports.list(client);
    return listed.filter(({ name }) => rules.rightOf(client, name) !== "none");
  }

  async open(name: string, client: ExportClient): Promise<OpenExport> {
    const rules = this.#rules();
    // "vm@before" is a disk of this name, or a snapshot of "vm": that shows only once it is open.
    const at = name.lastIndexOf("@");
    const possible = at > 0 ? [name, name.slice(0, at)] : [name];
    if (possible.every((disk) => rules.rightOf(client, disk) === "none")) {
      throw this.#denied(name, client);
    }
    const opened = await this.#exports.open(name, client);
    const right = rules.rightOf(client, opened.disk ?? opened.name);
    if (right !== "none") return withRight(opened, right);
    await opened.close();
    throw this.#denied(name, client);
  }

  #denied(name: string, { peer, certificate }: ExportClient): KelpieError {
    this.#log.warn("export refused", { export: name, peer, certificate });
    return new KelpieError("denied", `no access to "${name}"`, {
      remedy: "the access rules of the server say who may open which disk",
    });
  }
}

function withRight(opened: OpenExport, right: Exclude<Right, "none">): OpenExport {
  if (right === "write" || opened.device.readOnly) return opened;
  return { ...opened, device: readOnlyDevice(opened.device), close: () => opened.close() };
}
