import type { Connection } from "../../src/host/net.ts";
import { settle } from "../support/raw-nbd.ts";

/** What a peer says next, once it has heard so many bytes. */
export interface Turn {
  heardBytes: number;
  bytes: Uint8Array;
}

/** One end of a connection, which listens and says what it is told to. */
export class FuzzedPeer {
  readonly connection: Connection;
  readonly #heard: Uint8Array[] = [];
  heardBytes = 0;
  isClosed = false;

  constructor(connection: Connection) {
    this.connection = connection;
    connection.start({
      data: (chunk) => {
        this.heardBytes += chunk.length;
        this.#heard.push(Buffer.from(chunk));
        connection.release(chunk, chunk.length);
      },
      drain() {},
      close: () => {
        this.isClosed = true;
      },
    });
  }

  get heard(): Buffer {
    return Buffer.concat(this.#heard);
  }

  /** Each turn once the other has said as much as it had; what it does not say is not waited for. */
  async play(turns: readonly Turn[]): Promise<void> {
    let inStep = true;
    for (const { heardBytes, bytes } of turns) {
      for (let wait = 0; inStep && this.heardBytes < heardBytes && !this.isClosed; wait++) {
        await new Promise(setImmediate);
        if (wait === 8) inStep = false;
      }
      this.connection.write([bytes]);
    }
    await settle();
  }

  async leave(): Promise<void> {
    this.connection.end();
    await settle();
  }
}
