import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Address } from "../../src/host/net.ts";
import {
  decodeOptionReplyHeader,
  encodeInfoRequest,
  encodeOption,
  greetingBytes,
  isErrorReply,
  option,
  optionReply,
  optionReplyHeaderBytes,
} from "../../src/nbd/wire-handshake.ts";
import { encodeRequest } from "../../src/nbd/wire-transmission.ts";

/** An NBD client on a real socket that does what no decent client would. */
export class RawSocket {
  readonly socket: Socket;

  /** Connected, before the handshake. */
  static async connect(address: Address): Promise<RawSocket> {
    const where =
      address.kind === "unix" ? { path: address.path } : { host: address.host, port: address.port };
    const socket = connect(where);
    await once(socket, "connect");
    // The server may well cut it off.
    socket.on("error", () => {});
    return new RawSocket(socket);
  }

  private constructor(socket: Socket) {
    this.socket = socket;
  }

  /** Handshake up to the transmission phase, with simple replies. */
  async go(exportName: string): Promise<this> {
    await this.take(greetingBytes);
    this.socket.write(Uint8Array.of(0, 0, 0, 3)); // Fixed newstyle, no zeroes.
    this.socket.write(encodeOption(option.go, encodeInfoRequest({ name: exportName, wanted: [] })));
    for (;;) {
      const reply = decodeOptionReplyHeader(await this.take(optionReplyHeaderBytes));
      if (reply.length > 0) await this.take(reply.length);
      if (isErrorReply(reply.type)) throw new Error(`"${exportName}" was refused`);
      if (reply.type === optionReply.ack) return this;
    }
  }

  request(command: number, offset: number, length: number): void {
    const request = { command, flags: 0, cookieHigh: 1, cookieLow: 2, offset, length };
    this.socket.write(encodeRequest(request, false));
  }

  /** Exactly so many bytes of what the server says. */
  async take(count: number): Promise<Buffer> {
    for (;;) {
      const bytes: Buffer | null = this.socket.read(count);
      if (bytes !== null && bytes.length === count) return bytes;
      if (this.socket.destroyed || this.socket.readableEnded) throw new Error("the server is gone");
      await this.#more();
    }
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.socket.off("readable", wake).off("close", wake);
        resolve();
      };
      this.socket.on("readable", wake).on("close", wake);
    });
  }

  /** Resolves when the server has closed the connection; what it still says is dropped. */
  async closed(): Promise<void> {
    this.socket.resume();
    if (!this.socket.closed) await once(this.socket, "close");
  }

  vanish(): void {
    this.socket.destroy();
  }
}
