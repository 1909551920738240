import type { Log } from "../host/log.ts";
import type { Exports } from "./exports.ts";

/** The same exports, with a line in the log when a client opens one and when it is gone. */
export function loggedExports(exports: Exports, log: Log): Exports {
  return {
    list: (client) => exports.list(client),
    async open(name, client) {
      const opened = await exports.open(name, client);
      const fields = { protocol: client.protocol, peer: client.peer, export: opened.name };
      log.info("client connected", { ...fields, readOnly: opened.device.readOnly });
      return {
        ...opened,
        async close() {
          await opened.close();
          log.info("client gone", fields);
        },
      };
    },
  };
}
