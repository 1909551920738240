import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import type { Net } from "../../src/host/net.ts";
import { SheepdogClient } from "../../src/sheepdog/client.ts";
import { RemoteVdis } from "../../src/sheepdog/client-vdis.ts";
import { checkStore } from "../../src/store/check.ts";
import { MemoryNet } from "../support/memory-net.ts";
import type { Cut } from "../support/sheep/cut-net.ts";
import { cutOperation, cutOperationNames, makeDisks } from "../support/sheep/cut-operations.ts";
import { QuickTimers } from "../support/sheep/quick-timers.ts";
import { isSoak } from "../support/soak.ts";
import { serveStoreOn } from "./served-store.ts";

const where = { kind: "tcp", host: "127.0.0.1", port: 7000 } as const;

/** What happens besides to the server when the connection is cut. */
const mishaps = ["nothing", "the server is killed", "power fails"] as const;
type Mishap = (typeof mishaps)[number];

/** Kelpie's server, that comes back after a mishap, and clients of Kelpie's. */
class FaultyWorld {
  readonly #memory = new MemoryNet();
  readonly #timers = new QuickTimers();
  readonly #clients: SheepdogClient[] = [];
  readonly #mishap: Mishap;
  #served: Promise<Awaited<ReturnType<typeof serveStoreOn>>>;
  #files: MemoryFiles | undefined;
  readonly net: Net;

  constructor(mishap: Mishap) {
    this.#mishap = mishap;
    this.#served = this.#serve();
    this.net = {
      listen: (address, accept) => this.#memory.listen(address, accept),
      tlsContext: () => this.#memory.tlsContext(),
      // A client has thirty seconds, and time stands still here.
      connect: async (address) => {
        await this.#served;
        return await this.#memory.connect(address);
      },
    };
  }

  async client(net: Net = this.net): Promise<SheepdogClient> {
    const client = await SheepdogClient.connect({ nodes: [where] }, { net, timers: this.#timers });
    this.#clients.push(client);
    return client;
  }

  readonly onCut = (): void => {
    if (this.#mishap === "nothing") return;
    const files = this.#files as MemoryFiles;
    this.#files =
      this.#mishap === "power fails" ? files.crashKeepingNothing() : files.crashKeepingEverything();
    this.#memory.stopListening(where);
    for (const connection of this.#memory.accepted.splice(0)) connection.destroy();
    this.#served = this.#serve();
  };

  async #serve() {
    const parts = { net: this.#memory, timers: this.#timers };
    const files = this.#files;
    const served = await serveStoreOn(where, files === undefined ? parts : { ...parts, files });
    this.#files = served.files;
    return served;
  }

  /** The store is in order, and so it is when it is opened again. */
  async end(when: string): Promise<void> {
    for (const client of this.#clients) await client.close();
    await (await this.#served).close();
    for (const round of ["first", "second"]) {
      this.#served = this.#serve();
      const served = await this.#served;
      const { findings } = await checkStore(served.vdis.store, { repair: false });
      assert.deepEqual(findings, [], `${when}, ${round} check`);
      await served.close();
    }
  }
}

async function cutAt(name: string, mishap: Mishap, cut?: Cut) {
  const world = new FaultyWorld(mishap);
  await makeDisks(new RemoteVdis({ url: "sheepdog://test" }, { client: await world.client() }));
  const placesMax = isSoak ? Number.POSITIVE_INFINITY : 6;
  const done = await cutOperation(name, world, { ...(cut && { cut }), placesMax });
  await world.end(`${name}, cut ${JSON.stringify(cut)}, ${mishap}`);
  return done;
}

describe("the client and Kelpie's server over a faulty network", () => {
  for (const name of cutOperationNames) {
    test(`${name}: cut anywhere, also by the end of the server, it is done once`, async () => {
      const { places } = await cutAt(name, "nothing");
      for (const [index, cut] of places.entries()) {
        const all = isSoak ? mishaps : [mishaps[index % mishaps.length] ?? "nothing"];
        for (const mishap of all) assert.equal((await cutAt(name, mishap, cut)).cuts, 1);
      }
    });
  }
});
