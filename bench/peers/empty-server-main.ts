/**
 * node empty-server-main.ts SOCKET BYTES: an NBD server whose disk takes every write, keeps none, and answers
 * reads with whatever is in memory. What it reaches is what the client, the socket and the protocol let any
 * server reach.
 */
import type { BlockDevice } from "../../src/block/block-device.ts";
import type { Exports } from "../../src/block/exports.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { createNbdServer } from "../../src/nbd/server.ts";

const [path = "", size = ""] = process.argv.slice(2);
const device: BlockDevice = {
  sizeBytes: Number(size),
  readOnly: false,
  read() {},
  write() {},
  zero() {},
  trim() {},
  flush() {},
  cache() {},
  extents: async ({ length }) => [{ lengthBytes: length, value: 0 }],
  changeBases: async () => [],
};
const exports: Exports = {
  list: async () => [],
  open: async () => ({ name: "", description: "", device, close: async () => {} }),
};
const { net, timers, log } = createNodeHost();
const server = await createNbdServer(
  { addresses: [{ kind: "unix", path }] },
  { net, timers, log, exports },
);
process.once("SIGTERM", () => void server.close());
