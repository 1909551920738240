import { Writer } from "../base/bytes.ts";
import { type ErrorCode, KelpieError } from "../base/errors.ts";
import { deviceBytesMax } from "../block/block-device.ts";
import type { TlsContext } from "../host/net.ts";
import type { Channel } from "./channel.ts";
import { dirtyBitmapPrefix } from "./contexts.ts";
import * as limits from "./limits.ts";
import {
  type BlockSizes,
  decodeExportNameReply,
  decodeGreeting,
  decodeInfo,
  decodeListedExport,
  decodeMetaContext,
  decodeOptionReplyHeader,
  type ExportFacts,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  exportNameReplyBytes,
  exportNameZeroes,
  greetingBytes,
  handshakeFlag,
  infoType,
  isErrorReply,
  type ListedExport,
  type MetaContext,
  option,
  optionError,
  optionReply,
  optionReplyHeaderBytes,
  transmissionFlag,
} from "./wire-handshake.ts";
import type { HeaderStyle } from "./wire-transmission.ts";

export interface ClientWishes {
  exportName: string;
  /** The best style to try; the server may only know less. */
  headers: HeaderStyle;
  /** Metadata contexts to select, if the server has them. */
  contexts: readonly string[];
  /** Everything else is said in TLS, or not at all. */
  tls?: ClientTls | undefined;
}

export interface ClientTls {
  context: TlsContext;
  /** What the server's certificate must be for. */
  hostName: string;
}

/** What the server has agreed to. */
export interface ServerTerms extends ExportFacts {
  style: HeaderStyle;
  contexts: MetaContext[];
  changeBases: string[];
  blockSizes: BlockSizes | undefined;
  name: string;
  description: string;
}

/** Longest reply to an option: a SERVER reply with a name and a description, and some. */
const replyBytesMax = 64 * 1024;
/** All replies to one option: more exports, contexts and descriptions than anybody has. */
const repliesBytesMax = 64 * 2 ** 20;
/** A server may have had more snapshots than it makes sense to list. */
const listedContextsMax = 65_536;

/** The client's side of the handshake, up to the begin of the transmission phase. */
export async function negotiateAsClient(
  channel: Channel,
  wishes: ClientWishes,
): Promise<ServerTerms> {
  const handshake = await ClientHandshake.begin(channel, wishes.tls);
  const style = await handshake.chooseStyle(wishes.headers);
  let contexts: MetaContext[] = [];
  let changeBases: string[] = [];
  if (style !== "simple" && wishes.contexts.length > 0) {
    changeBases = await handshake.listChangeBases(wishes.exportName);
    contexts = await handshake.setContexts(wishes.exportName, wishes.contexts);
  }
  return handshake.go(wishes.exportName, { style, contexts, changeBases });
}

/** The exports that a server lists, and nothing else. The connection is of no more use. */
export async function listAsClient(
  channel: Channel,
  tls: ClientTls | undefined,
): Promise<ListedExport[]> {
  const handshake = await ClientHandshake.begin(channel, tls);
  const listed: ListedExport[] = [];
  await handshake.ask(option.list, new Uint8Array(0), (type, data) => {
    if (type !== optionReply.server) return;
    if (listed.length === limits.listedExportsMax) throw broken("the list of exports has no end");
    listed.push(decodeListedExport(data));
  });
  channel.send(encodeOption(option.abort, new Uint8Array(0)));
  return listed;
}

class ClientHandshake {
  readonly #channel: Channel;
  readonly #noZeroes: boolean;

  private constructor(channel: Channel, noZeroes: boolean) {
    this.#channel = channel;
    this.#noZeroes = noZeroes;
  }

  static async begin(channel: Channel, tls: ClientTls | undefined): Promise<ClientHandshake> {
    const offered = decodeGreeting(await channel.take(greetingBytes));
    if ((offered & handshakeFlag.fixedNewstyle) === 0) {
      throw new KelpieError("unsupported", "the NBD server does not speak fixed newstyle");
    }
    const flags = offered & (handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes);
    channel.send(new Writer().u32(flags).finish());
    const handshake = new ClientHandshake(channel, (flags & handshakeFlag.noZeroes) !== 0);
    if (tls !== undefined) await handshake.#startTls(tls);
    return handshake;
  }

  /** A server that will not is left: going on in the clear is what somebody in between would want. */
  async #startTls({ context, hostName }: ClientTls): Promise<void> {
    await this.ask(option.startTls, new Uint8Array(0), () => {});
    await this.#channel.startTls({ role: "client", context, hostName }, new Uint8Array(0));
  }

  async chooseStyle(best: HeaderStyle): Promise<HeaderStyle> {
    const none = new Uint8Array(0);
    if (best === "extended" && (await this.#accepts(option.extendedHeaders, none)))
      return "extended";
    if (best !== "simple" && (await this.#accepts(option.structuredReply, none)))
      return "structured";
    return "simple";
  }

  async listChangeBases(exportName: string): Promise<string[]> {
    const data = encodeMetaContextRequest({ name: exportName, queries: [dirtyBitmapPrefix] });
    const bases: string[] = [];
    const collect = (type: number, reply: Uint8Array) => {
      if (type !== optionReply.metaContext) return;
      const { name } = decodeMetaContext(reply);
      if (bases.length === listedContextsMax) throw broken("the list of contexts has no end");
      if (name.startsWith(dirtyBitmapPrefix)) bases.push(name.slice(dirtyBitmapPrefix.length));
    };
    // A server without contexts, or without the export, says so: GO will show which.
    await this.#accepts(option.listMetaContext, data, collect);
    return bases;
  }

  async setContexts(exportName: string, wanted: readonly string[]): Promise<MetaContext[]> {
    const data = encodeMetaContextRequest({ name: exportName, queries: [...wanted] });
    const contexts: MetaContext[] = [];
    const collect = (type: number, reply: Uint8Array) => {
      if (type !== optionReply.metaContext) return;
      const context = decodeMetaContext(reply);
      const strange =
        !wanted.includes(context.name) ||
        contexts.some(({ id, name }) => id === context.id || name === context.name);
      if (strange) throw broken(`the server chose a context "${context.name}"`);
      contexts.push(context);
    };
    const accepted = await this.#accepts(option.setMetaContext, data, collect);
    return accepted ? contexts : [];
  }

  async go(
    exportName: string,
    agreed: { style: HeaderStyle; contexts: MetaContext[]; changeBases: string[] },
  ): Promise<ServerTerms> {
    let facts: ExportFacts | undefined;
    let blockSizes: BlockSizes | undefined;
    let [name, description] = [exportName, ""];
    const wanted = [infoType.name, infoType.description, infoType.blockSize];
    const data = encodeInfoRequest({ name: exportName, wanted });
    const collect = (type: number, reply: Uint8Array) => {
      if (type !== optionReply.info) return;
      const info = decodeInfo(reply);
      if (info.type === "export") facts = info;
      else if (info.type === "block-size") blockSizes = info;
      else if (info.type === "name") name = info.name;
      else if (info.type === "description") description = info.description;
    };
    const refused = await this.#try(option.go, data, collect);
    if (refused?.type === optionError.unsupported && agreed.style !== "extended") {
      facts = await this.#exportName(exportName); // a server from before 2016
    } else if (refused !== undefined) {
      throw refused.error;
    }
    if (facts === undefined) throw broken("the server did not say how large the export is");
    checkFacts(facts);
    return { ...agreed, ...facts, blockSizes, name, description };
  }

  /** Sends an option; calls `reply` for each of its replies but the last. Throws if it is refused. */
  async ask(
    number: number,
    data: Uint8Array,
    reply: (type: number, data: Uint8Array) => void,
  ): Promise<void> {
    const refused = await this.#try(number, data, reply);
    if (refused !== undefined) throw refused.error;
  }

  async #accepts(
    number: number,
    data: Uint8Array,
    reply: (type: number, data: Uint8Array) => void = () => {},
  ): Promise<boolean> {
    return (await this.#try(number, data, reply)) === undefined;
  }

  async #try(
    number: number,
    data: Uint8Array,
    reply: (type: number, data: Uint8Array) => void,
  ): Promise<Refusal | undefined> {
    this.#channel.send(encodeOption(number, data));
    let repliesBytes = 0;
    for (;;) {
      const header = decodeOptionReplyHeader(await this.#channel.take(optionReplyHeaderBytes));
      if (header.option !== number) throw broken("a reply to an option that was not sent");
      repliesBytes += optionReplyHeaderBytes + header.length;
      if (repliesBytes > repliesBytesMax) throw broken("the replies to an option have no end");
      if (header.length > replyBytesMax) throw broken("an option reply is too long");
      const payload = await this.#channel.take(header.length);
      if (isErrorReply(header.type)) return refusalOf(header.type, payload);
      if (header.type === optionReply.ack) return undefined;
      reply(header.type, payload);
    }
  }

  async #exportName(exportName: string): Promise<ExportFacts> {
    this.#channel.send(encodeOption(option.exportName, new Writer().utf8(exportName).finish()));
    const facts = decodeExportNameReply(await this.#channel.take(exportNameReplyBytes));
    if (!this.#noZeroes) await this.#channel.discard(exportNameZeroes);
    return facts;
  }
}

interface Refusal {
  type: number;
  error: KelpieError;
}

function refusalOf(type: number, payload: Uint8Array): Refusal {
  const text = Buffer.from(payload).toString(); // for people, so it need not be perfect
  const codes: Partial<Record<number, ErrorCode>> = {
    [optionError.unsupported]: "unsupported",
    [optionError.policy]: "busy",
    [optionError.unknown]: "not-found",
    [optionError.shutdown]: "closed",
    [optionError.tlsRequired]: "unsupported",
    [optionError.platform]: "io",
  };
  const message = `the NBD server refused: ${text || `error ${type - 2 ** 31}`}`;
  const remedy =
    type === optionError.tlsRequired ? { remedy: "write nbds:// and name certificates" } : {};
  return { type, error: new KelpieError(codes[type] ?? "invalid", message, remedy) };
}

function checkFacts({ sizeBytes, transmissionFlags }: ExportFacts): void {
  if ((transmissionFlags & transmissionFlag.hasFlags) === 0) throw broken("no transmission flags");
  if (sizeBytes > deviceBytesMax) {
    throw new KelpieError("unsupported", `the export has ${sizeBytes} bytes, which is too large`);
  }
}

/** The server breaks the protocol: the session cannot go on. */
function broken(what: string): KelpieError {
  return new KelpieError("io", `the NBD server breaks the protocol: ${what}`);
}
