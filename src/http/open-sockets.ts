// biome-ignore lint/style/noRestrictedImports: types only.
import type { Server } from "node:http";
// biome-ignore lint/style/noRestrictedImports: types only.
import type { Socket } from "node:net";

/** The connections of a server, and which of them have a request that is not answered. */
export class OpenSockets {
  readonly #open = new Set<Socket>();
  readonly #busy = new Set<Socket>();
  #closing = false;

  constructor(server: Server) {
    server.on("connection", (socket) => {
      this.#open.add(socket);
      socket.once("close", () => this.#open.delete(socket));
    });
    server.on("request", ({ socket }, response) => {
      this.#busy.add(socket);
      response.once("close", () => {
        this.#busy.delete(socket);
        if (this.#closing) socket.end();
      });
    });
  }

  /** Closes those that have nothing to be answered, and the others when they have been. */
  close(): void {
    this.#closing = true;
    for (const socket of this.#open) if (!this.#busy.has(socket)) socket.destroy();
  }
}
