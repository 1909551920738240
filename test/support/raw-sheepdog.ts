import assert from "node:assert/strict";
import { ByteQueue } from "../../src/base/byte-queue.ts";
import { type Log, silentLog } from "../../src/host/log.ts";
import type { StoreFacts } from "../../src/sheepdog/cluster.ts";
import { SheepdogServer, type SheepdogServerSettings } from "../../src/sheepdog/server.ts";
import { type Oid, vidsMax } from "../../src/sheepdog/wire-oid.ts";
import {
  internalOpcodesFrom,
  internalProtocolVersion,
  opcode,
  requestFlag,
} from "../../src/sheepdog/wire-opcodes.ts";
import * as wire from "../../src/sheepdog/wire-request.ts";
import {
  decodeResponsePrefix,
  decodeVdiAnswer,
  type ResponsePrefix,
  responseBytes,
  type VdiAnswer,
} from "../../src/sheepdog/wire-response.ts";
import { encodeSelectorText } from "../../src/sheepdog/wire-text.ts";
import type { Objects } from "../../src/vdi/objects/objects.ts";
import { FakeObjects } from "./fake-objects.ts";
import { ManualTimers } from "./manual-timers.ts";
import { type MemoryConnection, MemoryNet, type MemoryNetSettings } from "./memory-net.ts";
import { settle } from "./raw-nbd.ts";

export const address = { kind: "tcp", host: "127.0.0.1", port: 7000 } as const;
export const none = new Uint8Array(0);

export const storeFacts: StoreFacts = {
  path: "/srv/disks",
  createdMs: 1_700_000_000_000,
  space: async () => ({ totalBytes: 1000 * 2 ** 30, freeBytes: 600 * 2 ** 30 }),
};

export interface ServedObjects<O extends Objects> {
  net: MemoryNet;
  timers: ManualTimers;
  objects: O;
  server: SheepdogServer;
  /** How often a client was allowed to end the server. */
  stops: number;
  connect(): Promise<RawSheepdog>;
  /** Closes the server, whoever is connected. */
  stop(): Promise<void>;
}

interface Options {
  net?: MemoryNetSettings;
  server?: Partial<SheepdogServerSettings>;
  log?: Log;
}

/** A server in this process that `RawSheepdog`s can talk to. */
export async function serveObjects<O extends Objects = FakeObjects>(
  options: Options & { objects?: O } = {},
): Promise<ServedObjects<O>> {
  const net = new MemoryNet(options.net);
  const timers = new ManualTimers();
  const objects = options.objects ?? (new FakeObjects() as unknown as O);
  const served = { net, timers, objects, stops: 0 };
  const stop = () => {
    served.stops++;
  };
  const log = options.log ?? silentLog;
  const components = { net, timers, log, objects, store: storeFacts, stop };
  const server = new SheepdogServer({ allowAdmin: false, ...options.server }, components);
  await server.listen(address);
  return Object.assign(served, {
    server,
    connect: async () => new RawSheepdog(await net.connect(address)),
    stop: async () => {
      const closed = server.close();
      await settle();
      timers.advance(3_600_000); // clients that do not leave are cut off
      await closed;
    },
  });
}

export interface RawReply extends ResponsePrefix {
  /** The response's 48 bytes. */
  header: Uint8Array;
  payload: Uint8Array;
}

type Prefix = Partial<wire.RequestPrefix>;

/** A client that says what a test tells it to, right or wrong. */
export class RawSheepdog {
  readonly connection: MemoryConnection;
  readonly closed: Promise<void>;
  isClosed = false;
  /** How many chunks the server's words came in. */
  chunksReceived = 0;
  readonly #heard: ByteQueue;
  #wake: () => void = () => {};
  #nextId = 0;

  constructor(connection: MemoryConnection) {
    this.connection = connection;
    this.#heard = new ByteQueue((chunk, count) => connection.release(chunk, count));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    connection.start({
      data: (chunk) => {
        this.chunksReceived++;
        this.#heard.push(chunk);
        this.#wake();
      },
      drain() {},
      close: () => {
        this.isClosed = true;
        resolve();
        this.#wake();
      },
    });
  }

  get unreadBytes(): number {
    return this.#heard.byteLength;
  }

  send(...parts: Uint8Array[]): void {
    this.connection.write(parts);
  }

  async take(count: number): Promise<Uint8Array> {
    while (this.#heard.byteLength < count) {
      if (this.isClosed) throw new Error("the server has closed the connection");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = new Uint8Array(count);
    this.#heard.copyInto(taken);
    return taken;
  }

  async reply(): Promise<RawReply> {
    const header = await this.take(responseBytes);
    const prefix = { opcode: 0, epoch: 0, id: 0, dataLength: 0, result: 0 };
    decodeResponsePrefix(header, 0, prefix);
    return { ...prefix, header, payload: await this.take(prefix.dataLength) };
  }

  /** What `dog` and QEMU put before a request; `payload` is sent if the flag WRITE is set. */
  prefix(code: number, given: Prefix = {}): wire.RequestPrefix {
    const internal = code >= internalOpcodesFrom;
    const protocolVersion = internal ? internalProtocolVersion : 0;
    const defaults = { protocolVersion, opcode: code, flags: 0, epoch: 0, dataLength: 0 };
    return { ...defaults, id: this.#nextId++, ...given };
  }

  async plain(code: number, dataLength = 0, given: Prefix = {}): Promise<RawReply> {
    this.send(wire.encodePlainRequest(this.prefix(code, { dataLength, ...given })));
    return this.reply();
  }

  /** A request with a payload and no fields. */
  async tell(code: number, payload: Uint8Array, given: Prefix = {}): Promise<RawReply> {
    const prefix = { flags: requestFlag.write, dataLength: payload.length, ...given };
    this.send(wire.encodePlainRequest(this.prefix(code, prefix)), payload);
    return this.reply();
  }

  async cluster(
    code: number,
    fields: Partial<wire.ClusterFields>,
    { payload = none, dataLength = payload.length }: { payload?: Uint8Array; dataLength?: number },
  ): Promise<RawReply> {
    const flags = payload.length > 0 ? requestFlag.write : 0;
    this.send(wire.encodeClusterRequest(this.prefix(code, { flags, dataLength }), fields), payload);
    return this.reply();
  }

  /** A request that names a VDI. */
  async vdi(
    code: number,
    name: string,
    fields: Partial<wire.VdiFields> & { tag?: string } = {},
  ): Promise<RawReply & { vdi: VdiAnswer }> {
    const payload = encodeSelectorText(name, fields.tag);
    const prefix = { flags: requestFlag.write, dataLength: payload.length };
    this.send(wire.encodeVdiRequest(this.prefix(code, prefix), fields), payload);
    const reply = await this.reply();
    return { ...reply, vdi: decodeVdiAnswer(reply.header, 0) };
  }

  /** As `vdi`, which must succeed: the vid. */
  async vidOf(...request: Parameters<RawSheepdog["vdi"]>): Promise<number> {
    const { result, vdi } = await this.vdi(...request);
    assert.equal(result, 0);
    assert.ok(vdi.vid > 0 && vdi.vid < vidsMax);
    return vdi.vid;
  }

  async read(oid: Oid, offset: number, length: number): Promise<RawReply> {
    const prefix = this.prefix(opcode.readObject, { dataLength: length });
    this.send(wire.encodeObjectRequest(prefix, { oid, offset }));
    return this.reply();
  }

  async write(oid: Oid, offset: number, payload: Uint8Array): Promise<number> {
    this.send(...this.writeRequest(opcode.writeObject, { oid, offset }, payload));
    return (await this.reply()).result;
  }

  async create(oid: Oid, offset: number, payload: Uint8Array, copyFrom?: Oid): Promise<number> {
    const fields = { oid, offset, ...(copyFrom && { copyFrom }) };
    this.send(...this.writeRequest(opcode.createAndWriteObject, fields, payload));
    return (await this.reply()).result;
  }

  writeRequest(
    code: number,
    fields: Partial<wire.ObjectFields> & { oid: Oid },
    payload: Uint8Array,
    given: Prefix = {},
  ): Uint8Array[] {
    const copy = fields.copyFrom === undefined ? 0 : requestFlag.copyOnWrite;
    const flags = requestFlag.write | copy;
    const prefix = this.prefix(code, { flags, dataLength: payload.length, ...given });
    return [wire.encodeObjectRequest(prefix, fields), payload];
  }

  async object(code: number, oid: Oid, given: Prefix = {}): Promise<RawReply> {
    this.send(wire.encodeObjectRequest(this.prefix(code, given), { oid }));
    return this.reply();
  }
}
