/**
 * Makes the stores that are kept of a format version: `node test/formats/make-stores.ts`. To be run once
 * for each version that is released, never again for an old one.
 */
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { formatVersion } from "../../src/store/formats/identity.ts";
import { filled, storesDirectory } from "./kept-stores.ts";

const scratch = await mkdtemp(join(tmpdir(), "kelpie-format-"));
const target = join(storesDirectory, `version-${formatVersion}`);
await mkdir(target, { recursive: true });
const store = await openLocalStore(
  { directory: scratch, create: true },
  { host: createNodeHost() },
);
const { call } = store.control;
await call("vdi.create", { name: "disk", sizeBytes: 2 ** 30 });
const disk = store.vdis.volume("disk");
await disk.write([filled(1, 4)], 0);
await disk.write([filled(2, 1)], 2 ** 29);
await call("vdi.snapshot", { names: ["disk"], tag: "first" });
await disk.write([filled(3, 2)], 4096);
await disk.zero(2 ** 28, 2 ** 22, { keepAllocated: true });
await call("vdi.snapshot", { names: ["disk"], tag: "second" });
await store.vdis.store.checkpoint();
await call("vdi.rollback", { names: ["disk"], snapshot: "first" });
await disk.write([filled(4, 1)], 3 * 4096);
await call("vdi.clone", { source: "disk", snapshot: "second", name: "clone" });
await disk.flush();
// As a kill leaves it: the logs have what no checkpoint has.
await keep("killed");
await call("store.clean", {});
await store.close();
await keep("stopped");
await rm(scratch, { recursive: true });

async function keep(name: string): Promise<void> {
  const filter = (source: string) => !["lock", "tmp"].includes(basename(source));
  await cp(scratch, join(target, name), { recursive: true, filter });
}
