import assert from "node:assert/strict";
import { isKelpieError } from "../../src/base/errors.ts";
import { deviceBytesMax } from "../../src/block/block-device.ts";
import { connectNbd, listNbdExports, type NbdClient } from "../../src/nbd/client.ts";
import type { HeaderStyle } from "../../src/nbd/wire-transmission.ts";
import { ManualTimers } from "../support/manual-timers.ts";
import type { MemoryNet } from "../support/memory-net.ts";
import { address } from "../support/raw-nbd.ts";

export type ClientKind = HeaderStyle | "list";

/** What each step came to: text that is the same for the same answer. */
export type Outcomes = string[];

/**
 * What a client does, step by step. A step either has a value that a device may have, or fails with a
 * KelpieError: anything else is thrown.
 */
export class ClientScript {
  readonly outcomes: Outcomes = [];
  readonly timers = new ManualTimers();
  isDone = false;

  /** Never rejects with what a server may cause. */
  async run(kind: ClientKind, net: MemoryNet): Promise<void> {
    const parts = { net, timers: this.timers };
    if (kind === "list") {
      await this.#step(async () => JSON.stringify(await listNbdExports(address, parts)));
    } else {
      const client = await this.#connect(() =>
        connectNbd({ address, exportName: "disk", headers: kind }, parts),
      );
      if (client !== undefined) await this.#use(client);
    }
    this.isDone = true;
  }

  async #connect(connect: () => Promise<NbdClient>): Promise<NbdClient | undefined> {
    let client: NbdClient | undefined;
    await this.#step(async () => {
      client = await connect();
      const { sizeBytes } = client;
      assert.ok(sizeBytes >= 0 && sizeBytes <= deviceBytesMax && Number.isInteger(sizeBytes));
      return JSON.stringify(client.terms);
    });
    return client;
  }

  async #use(client: NbdClient): Promise<void> {
    const read = async (offset: number, length: number) => {
      const target = Buffer.alloc(length, 0xee);
      await client.read(target, offset);
      return target.toString("latin1");
    };
    const extents = async (kind: "allocation" | "depth") => {
      const query = { kind, offset: 0, length: 2 ** 17, extentsMax: 9 };
      const found = await client.extents(query);
      assert.ok(found.length >= 1 && found.length <= 9, `${found.length} extents`);
      const total = found.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      assert.ok(total <= 2 ** 17 && found.every(({ lengthBytes }) => lengthBytes > 0));
      return JSON.stringify(found);
    };
    await this.#step(() => read(2 ** 16 - 100, 700));
    await this.#step(async () => client.write([Buffer.alloc(700, 9)], 50, { fua: true }));
    await this.#step(async () => client.zero(4096, 8192, { keepAllocated: true }));
    await this.#step(async () => client.trim(8192, 512));
    await this.#step(() => extents("allocation"));
    await this.#step(() => extents("depth"));
    await this.#step(async () => client.flush());
    await this.#step(async () => client.cache(0, 4096));
    const several = [0, 700, 2 ** 16].map((offset) => this.#step(() => read(offset, 700)));
    await Promise.all(several);
    await this.#step(async () => JSON.stringify(await client.changeBases()));
    await this.#step(() => client.close());
  }

  async #step(act: () => Promise<unknown>): Promise<void> {
    const index = this.outcomes.push("has not ended") - 1;
    try {
      this.outcomes[index] = String((await act()) ?? "done");
    } catch (error) {
      if (!isKelpieError(error)) throw error;
      this.outcomes[index] = `failed: ${error.code}`;
    }
  }
}
