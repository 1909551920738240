import type { MemoryFiles } from "../../sim/memory-files.ts";
import { silentLog } from "../../src/host/log.ts";
import type { Address, Net } from "../../src/host/net.ts";
import type { Timers } from "../../src/host/timers.ts";
import { SheepdogServer } from "../../src/sheepdog/server.ts";
import type { Objects } from "../../src/vdi/objects/objects.ts";
import { ManualTimers } from "../support/manual-timers.ts";
import { MemoryNet } from "../support/memory-net.ts";
import { openMemoryObjects } from "../support/memory-objects.ts";
import { settle } from "../support/raw-nbd.ts";
import { address, RawSheepdog, storeFacts } from "../support/raw-sheepdog.ts";
import { Dog } from "./dog.ts";
import { QemuDriver } from "./qemu-driver.ts";

type Tcp = Extract<Address, { kind: "tcp" }>;

/** A store in memory, served to the parts that QEMU and `dog` play. */
export async function serveStore() {
  const net = new MemoryNet();
  const timers = new ManualTimers();
  const served = await serveStoreOn(address, { net, timers });
  const connect = async () => new RawSheepdog(await net.connect(address));
  return {
    ...served,
    connect,
    dog: async () => new Dog(await connect()),
    createDisk: (name: string, sizeBytes: number) => QemuDriver.create(connect, name, sizeBytes),
    openDisk: (name: string, snapshot = "") => QemuDriver.open(connect, name, snapshot),
    async [Symbol.asyncDispose]() {
      const closed = served.close();
      await settle();
      timers.advance(3_600_000); // whoever is still connected
      await closed;
    },
  };
}

/** The same on any network; a store that is there already goes on. */
export async function serveStoreOn(
  where: Tcp,
  given: { net: Net; timers: Timers; files?: MemoryFiles; locking?: boolean },
) {
  const { net, timers, files, locking = false } = given;
  const opened = await openMemoryObjects(files, { locking });
  const objects: Objects = opened.objects;
  const components = { net, timers, log: silentLog, objects, store: storeFacts, stop() {} };
  const server = new SheepdogServer({ allowAdmin: false }, components);
  const actual = (await server.listen(where)) as Tcp;
  return {
    ...opened,
    objects,
    server,
    port: actual.port,
    async close(): Promise<void> {
      await server.close();
      await opened.vdis.close();
    },
  };
}
