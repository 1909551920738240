import { joinBytes } from "../../../src/base/bytes.ts";
import type { Address, Connection, Listener, Net } from "../../../src/host/net.ts";
import { result } from "../../../src/sheepdog/results.ts";
import { opcode, requestFlag, vidBitmapBytes } from "../../../src/sheepdog/wire-opcodes.ts";
import {
  decodeObjectFields,
  decodeRequestPrefix,
  decodeVdiFields,
  type RequestPrefix,
  requestBytes,
} from "../../../src/sheepdog/wire-request.ts";
import {
  encodeClusterDefault,
  encodeResponsePrefix,
  encodeVdiAnswer,
  responseBytes,
} from "../../../src/sheepdog/wire-response.ts";
import { decodeSelectorText } from "../../../src/sheepdog/wire-text.ts";
import { OriginalCluster } from "./cluster-ops.ts";
import { type OriginalSheep, Refused } from "./original-sheep.ts";

export interface SheepServerSettings {
  address: Address;
  /** A number below 1: requests are executed, and answered, in any order. Without it in theirs. */
  shuffle?: () => number;
}

export interface SeenRequest {
  prefix: RequestPrefix;
  header: Uint8Array;
  payload: Uint8Array;
}

/** What a request is answered with instead of being served; undefined: it is served. */
export type Intercept = (seen: SeenRequest) => number | "drop" | "close" | undefined;

/** A node of a cluster of the original, as clients see it. */
export class SheepServer {
  readonly sheep: OriginalSheep;
  readonly cluster = new OriginalCluster();
  readonly #settings: SheepServerSettings;
  readonly #connections = new Set<Connection>();
  #listener: Listener | undefined;
  /** Opcodes of all requests that came, in order. */
  readonly seen: number[] = [];
  intercept: Intercept | undefined;

  constructor(settings: SheepServerSettings, components: { sheep: OriginalSheep }) {
    this.#settings = settings;
    this.sheep = components.sheep;
  }

  async listen(net: Net): Promise<void> {
    this.#listener = await net.listen(this.#settings.address, (connection) =>
      this.#accept(connection),
    );
  }

  /** Nobody can connect any more, and all connections are gone. */
  async stop(): Promise<void> {
    await this.#listener?.close();
    for (const connection of this.#connections) connection.destroy();
  }

  #accept(connection: Connection): void {
    this.#connections.add(connection);
    let bytes: Uint8Array = new Uint8Array(0);
    let waiting: SeenRequest[] = [];
    let answers: Uint8Array[] = [];
    let isDue = false;
    const { shuffle } = this.#settings;
    const takeOne = <T>(from: T[]): T | undefined =>
      shuffle === undefined ? from.shift() : from.splice(Math.floor(shuffle() * from.length), 1)[0];
    const work = (): void => {
      isDue = false;
      const request = takeOne(waiting);
      if (request !== undefined) answers.push(...this.#execute(request, connection));
      // Some answers are overtaken by later ones.
      const isHeld = shuffle !== undefined && waiting.length > 0 && shuffle() < 0.5;
      const answer = isHeld ? undefined : takeOne(answers);
      if (answer !== undefined) connection.write([answer]);
      if (waiting.length + answers.length > 0) later();
    };
    const later = (): void => {
      if (isDue) return;
      isDue = true;
      queueMicrotask(work);
    };
    connection.start({
      data: (chunk) => {
        bytes = joinBytes([bytes, chunk.slice()]);
        connection.release(chunk, chunk.length);
        for (;;) {
          const request = parse(bytes);
          if (request === undefined) break;
          bytes = bytes.subarray(requestBytes + request.payload.length);
          this.seen.push(request.prefix.opcode);
          waiting.push(request);
        }
        if (waiting.length > 0) later();
      },
      drain: () => {},
      close: () => {
        this.#connections.delete(connection);
        // What has come is executed; nobody hears of it.
        for (const request of waiting) this.#execute(request, connection);
        waiting = [];
        answers = [];
      },
    });
  }

  #execute(request: SeenRequest, connection: Connection): Uint8Array[] {
    const intercepted = this.intercept?.(request);
    if (intercepted === "drop") return [];
    if (intercepted === "close") {
      connection.destroy();
      return [];
    }
    const answer = new Uint8Array(responseBytes);
    let payload: Uint8Array = new Uint8Array(0);
    let code: number = intercepted ?? result.success;
    const fields = new Uint8Array(responseBytes);
    try {
      if (intercepted === undefined) {
        const answered = this.cluster.serve(this.sheep, request, fields);
        code = answered?.result ?? result.success;
        payload = answered?.payload ?? serve(this.sheep, request, fields);
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      code = error.result;
    }
    const { opcode: number, id } = request.prefix;
    const prefix = { opcode: number, epoch: 1, id, dataLength: payload.length, result: code };
    encodeResponsePrefix(answer, 0, prefix);
    if (intercepted === undefined) answer.set(fields.subarray(20), 20);
    return [joinBytes([answer, payload])];
  }
}

function parse(bytes: Uint8Array): SeenRequest | undefined {
  if (bytes.length < requestBytes) return undefined;
  const prefix = { protocolVersion: 0, opcode: 0, flags: 0, epoch: 0, id: 0, dataLength: 0 };
  decodeRequestPrefix(bytes, 0, prefix);
  const payloadBytes = (prefix.flags & requestFlag.write) === 0 ? 0 : prefix.dataLength;
  if (bytes.length < requestBytes + payloadBytes) return undefined;
  return {
    prefix,
    header: bytes.slice(0, requestBytes),
    payload: bytes.slice(requestBytes, requestBytes + payloadBytes),
  };
}

/** Returns the payload of the answer; writes its fields. */
function serve(sheep: OriginalSheep, request: SeenRequest, fields: Uint8Array): Uint8Array {
  const { prefix, header, payload } = request;
  const none = new Uint8Array(0);
  switch (prefix.opcode) {
    case opcode.readObject:
    case opcode.writeObject:
    case opcode.createAndWriteObject:
    case opcode.removeObject:
      return serveObject(sheep, request);
    case opcode.newVdi: {
      if (payload.length !== 256) throw new Refused(result.invalidParameters);
      const { name } = decodeSelectorText(payload);
      const vid = sheep.newVdi({ ...decodeVdiFields(header, 0), name });
      encodeVdiAnswer(fields, 0, sheep.header(vid));
      return none;
    }
    case opcode.getVdiInfo:
    case opcode.lockVdi:
    case opcode.deleteVdi: {
      const { name, tag } = decodeSelectorText(payload);
      const { snapId } = decodeVdiFields(header, 0);
      const vid =
        prefix.opcode === opcode.deleteVdi
          ? sheep.deleteVdi(name, tag, snapId)
          : sheep.lookup(name, tag, snapId);
      if (prefix.opcode === opcode.lockVdi) sheep.lock(vid);
      encodeVdiAnswer(fields, 0, { ...sheep.header(vid), vid });
      return none;
    }
    case opcode.releaseVdi:
      sheep.locked.delete(decodeVdiFields(header, 0).baseVid);
      return none;
    case opcode.readVdis:
    case opcode.readDeletedVdis: {
      if (prefix.dataLength !== vidBitmapBytes) throw new Refused(result.invalidParameters);
      return bitmapOf(prefix.opcode === opcode.readVdis ? sheep.inUse : sheep.deleted);
    }
    case opcode.getClusterDefault:
      encodeClusterDefault(fields, 0, {
        copies: 3,
        copyPolicy: 0,
        blockSizeShift: sheep.blockSizeShift,
      });
      return none;
    case opcode.getVdiAttribute: {
      const { nameHash, attributeId } = sheep.attribute(payload, prefix.flags);
      encodeVdiAnswer(fields, 0, { vid: nameHash, attributeId, copies: 3 });
      return none;
    }
    default: // FLUSH_VDI too: there is no cache
      throw new Refused(result.invalidParameters);
  }
}

function serveObject(sheep: OriginalSheep, { prefix, header, payload }: SeenRequest): Uint8Array {
  const { oid, copyFrom, offset } = decodeObjectFields(header, 0);
  if (oid === undefined) throw new Refused(result.invalidParameters);
  if (prefix.opcode === opcode.readObject) {
    const target = new Uint8Array(prefix.dataLength);
    sheep.read(oid, offset, target);
    return target;
  }
  const copying = (prefix.flags & requestFlag.copyOnWrite) !== 0 && copyFrom !== undefined;
  if (prefix.opcode === opcode.writeObject) sheep.write(oid, offset, payload);
  else if (prefix.opcode === opcode.removeObject) sheep.remove(oid);
  else sheep.create(oid, { offset, bytes: payload, ...(copying ? { copyFrom } : {}) });
  return new Uint8Array(0);
}

function bitmapOf(vids: ReadonlySet<number>): Uint8Array {
  const bitmap = new Uint8Array(vidBitmapBytes);
  for (const vid of vids) bitmap[vid >> 3] = (bitmap[vid >> 3] ?? 0) | (1 << (vid & 7));
  return bitmap;
}
