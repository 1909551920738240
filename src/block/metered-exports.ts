import type { ExportClient, Exports, OpenExport } from "./exports.ts";
import type { RequestMeter } from "./request-meter.ts";

export type MeterOf = (exportName: string, protocol: ExportClient["protocol"]) => RequestMeter;

/** The same exports, each with a meter that its server tells of every request. */
export function meteredExports(exports: Exports, meterOf: MeterOf): Exports {
  return {
    list: (client) => exports.list(client),
    async open(name, client): Promise<OpenExport> {
      const opened = await exports.open(name, client);
      return {
        name: opened.name,
        description: opened.description,
        device: opened.device,
        disk: opened.disk,
        meter: meterOf(opened.name, client.protocol),
        close: () => opened.close(),
      };
    },
  };
}
