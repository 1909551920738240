import { decodeUtf8, encodeUtf8, Reader } from "../base/bytes.ts";
import { type ErrorCode, isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { ExportClient, Exports, OpenExport } from "../block/exports.ts";
import type { Log } from "../host/log.ts";
import type { TlsContext, TlsPeer } from "../host/net.ts";
import type { ServedContext } from "./block-status.ts";
import type { Channel } from "./channel.ts";
import { availableContexts, extentKindOf, selectContexts } from "./contexts.ts";
import { ExportChoice } from "./export-choice.ts";
import {
  blockMinimumBytes,
  blockPreferredBytes,
  contextsMax,
  optionBytesDiscardMax,
  optionBytesMax,
  optionsMax,
  payloadBytesMax,
} from "./limits.ts";
import {
  checkString,
  clientFlagsBytes,
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeOptionHeader,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfo,
  encodeListedExport,
  encodeMetaContext,
  encodeOptionReply,
  handshakeFlag,
  infoType,
  type OptionHeader,
  option,
  optionError,
  optionHeaderBytes,
  optionReply,
  stringBytesMax,
  transmissionFlag,
} from "./wire-handshake.ts";
import type { HeaderStyle } from "./wire-transmission.ts";

/** What server and client have agreed upon. The export is the receiver's to close. */
export interface Agreement {
  opened: OpenExport;
  style: HeaderStyle;
  contexts: ServedContext[];
  contextNames: string[];
}

/** What a server does about TLS. */
export interface ServerTls {
  /** Asked for at each handshake, so that new certificates count from the next one on. */
  context(): TlsContext;
  /** Nothing but the way to TLS is answered in the clear. */
  required: boolean;
  /** Clients must have a certificate of the authority's. */
  verifyPeer: boolean;
}

export interface HandshakeComponents {
  channel: Channel;
  exports: Exports;
  log: Log;
  /** There is no TLS if it is absent. */
  tls?: ServerTls | undefined;
  isShuttingDown(): boolean;
}

/**
 * The server's side of the handshake. Undefined when the client left in good order (ABORT); throws
 * "closed" when it vanished, and other errors when it said something after which the session cannot
 * go on. Nothing is left open then.
 */
export async function negotiateAsServer(
  components: HandshakeComponents,
): Promise<Agreement | undefined> {
  const handshake = new ServerHandshake(components);
  try {
    return await handshake.run();
  } finally {
    await handshake.close();
  }
}

type Outcome = "next" | "abort" | Agreement;

class ServerHandshake {
  readonly #components: HandshakeComponents;
  readonly #choice: ExportChoice;
  #noZeroes = false;
  #style: HeaderStyle = "simple";
  #contextNames: string[] = [];
  #contextsExport = "";
  /** Whom TLS has shown, once it has begun. */
  #secured: TlsPeer | undefined;

  constructor(components: HandshakeComponents) {
    this.#components = components;
    const { exports, log } = components;
    this.#choice = new ExportChoice({ exports, log, client: () => this.#client });
  }

  async run(): Promise<Agreement | undefined> {
    const { channel } = this.#components;
    const ours = handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes;
    channel.send(encodeGreeting(ours));
    const flags = new Reader(await channel.take(clientFlagsBytes)).u32();
    if ((flags & ~ours) !== 0) throw new KelpieError("invalid", `unknown client flags ${flags}`);
    this.#noZeroes = (flags & handshakeFlag.noZeroes) !== 0;
    for (let count = 0; count < optionsMax; count++) {
      const header = decodeOptionHeader(await channel.take(optionHeaderBytes));
      const outcome = await this.#answer(header);
      if (outcome === "abort") return undefined;
      if (outcome !== "next") return outcome;
    }
    throw new KelpieError("invalid", `more than ${optionsMax} options`);
  }

  async close(): Promise<void> {
    await this.#choice.close();
  }

  async #answer(header: OptionHeader): Promise<Outcome> {
    const { channel } = this.#components;
    if (header.length > optionBytesMax) {
      if (header.length > optionBytesDiscardMax || header.option === option.exportName) {
        throw new KelpieError("invalid", `an option of ${header.length} bytes`);
      }
      await channel.discard(header.length);
      this.#refuse(header, optionError.tooBig, `more than ${optionBytesMax} bytes`);
      return "next";
    }
    const data = await channel.take(header.length);
    if (header.option === option.exportName) return this.#exportName(data);
    if (header.option === option.startTls) return this.#startTls(header, data);
    try {
      return await this.#dispatch(header, data);
    } catch (error) {
      if (isKelpieError(error)) {
        this.#refuse(header, refusalTypes[error.code], error.message);
      } else {
        this.#components.log.error("nbd option failed unexpectedly", { error: messageOf(error) });
        this.#refuse(header, optionError.platform, "an internal error");
      }
      return "next";
    }
  }

  async #dispatch(header: OptionHeader, data: Uint8Array): Promise<Outcome> {
    if (header.option === option.abort) {
      this.#reply(header, optionReply.ack);
      return "abort";
    }
    if (this.#components.isShuttingDown()) {
      throw new KelpieError("closed", "the server is shutting down");
    }
    if (this.#needsTls) {
      this.#refuse(header, optionError.tlsRequired, "this server serves in TLS only");
      return "next";
    }
    switch (header.option) {
      case option.list:
        expectEmpty(data);
        return this.#list(header);
      case option.structuredReply:
        expectEmpty(data);
        return this.#useStructuredReplies(header);
      case option.extendedHeaders:
        expectEmpty(data);
        return this.#useExtendedHeaders(header);
      case option.listMetaContext:
      case option.setMetaContext:
        return this.#metaContexts(header, data);
      case option.info:
      case option.go:
        return this.#infoOrGo(header, data);
      default:
        this.#refuse(header, optionError.unsupported, `option ${header.option} is not known`);
        return "next";
    }
  }

  /** The oldest way to begin: it has no room for an error, so every refusal ends the session. */
  async #exportName(data: Uint8Array): Promise<Outcome> {
    if (this.#components.isShuttingDown()) throw new KelpieError("closed", "shutting down");
    if (this.#needsTls) throw new KelpieError("unsupported", "EXPORT_NAME without TLS");
    if (this.#style === "extended") {
      throw new KelpieError("invalid", "EXPORT_NAME after extended headers were agreed upon");
    }
    if (data.length > stringBytesMax) throw new KelpieError("invalid", "a name too long");
    const opened = await this.#choice.open(checkString(decodeUtf8(data)));
    const facts = exportFacts(opened.device, this.#style);
    this.#components.channel.send(encodeExportNameReply(facts, this.#noZeroes));
    return this.#agree(opened);
  }

  async #list(header: OptionHeader): Promise<Outcome> {
    for (const listed of await this.#components.exports.list(this.#client)) {
      this.#reply(header, optionReply.server, encodeListedExport(listed));
    }
    this.#reply(header, optionReply.ack);
    return "next";
  }

  get #client(): ExportClient {
    const { peer } = this.#components.channel.connection;
    return { protocol: "nbd", peer, certificate: this.#secured?.name };
  }

  get #needsTls(): boolean {
    return this.#components.tls?.required === true && this.#secured === undefined;
  }

  /**
   * Nothing of what was said in the clear counts any more, for somebody in between may have said it: neither
   * what was agreed upon nor what has arrived. The flags of the greeting do, as the specification wants it.
   */
  async #startTls(header: OptionHeader, data: Uint8Array): Promise<Outcome> {
    const { channel, tls, isShuttingDown } = this.#components;
    const refuse = (type: number, message: string): Outcome => {
      this.#refuse(header, type, message);
      return "next";
    };
    if (isShuttingDown()) return refuse(optionError.shutdown, "the server is shutting down");
    if (tls === undefined) return refuse(optionError.unsupported, "this server has no TLS");
    if (this.#secured !== undefined) return refuse(optionError.invalid, "TLS has begun already");
    if (data.length > 0) return refuse(optionError.invalid, "the option takes no data");
    await this.#choice.close();
    this.#style = "simple";
    this.#contextNames = [];
    this.#contextsExport = "";
    const upgrade = { role: "server", context: tls.context(), verifyPeer: tls.verifyPeer } as const;
    const acknowledgement = encodeOptionReply(header.option, optionReply.ack);
    try {
      this.#secured = await channel.startTls(upgrade, acknowledgement);
    } catch (error) {
      const { peer } = channel.connection;
      this.#components.log.warn("nbd tls refused", { peer, reason: messageOf(error) });
      throw error;
    }
    return "next";
  }

  #useStructuredReplies(header: OptionHeader): Outcome {
    if (this.#style === "extended") {
      const message = "extended headers are agreed upon already";
      this.#refuse(header, optionError.extendedHeadersRequired, message);
      return "next";
    }
    if (this.#style === "structured") {
      throw new KelpieError("invalid", "structured replies are agreed upon already");
    }
    this.#style = "structured";
    this.#reply(header, optionReply.ack);
    return "next";
  }

  #useExtendedHeaders(header: OptionHeader): Outcome {
    if (this.#style === "extended") {
      throw new KelpieError("invalid", "extended headers are agreed upon already");
    }
    this.#style = "extended";
    this.#reply(header, optionReply.ack);
    return "next";
  }

  async #metaContexts(header: OptionHeader, data: Uint8Array): Promise<Outcome> {
    const isSet = header.option === option.setMetaContext;
    if (isSet) this.#contextNames = []; // whatever comes of it, the old set is gone
    if (this.#style === "simple") {
      throw new KelpieError("invalid", "metadata contexts need structured replies");
    }
    const { name, queries } = decodeMetaContextRequest(data);
    const opened = await this.#choice.open(name);
    const available = availableContexts(await opened.device.changeBases());
    const selected = selectContexts(available, queries, !isSet);
    if (isSet && selected.length > contextsMax) {
      this.#refuse(header, optionError.tooBig, `more than ${contextsMax} contexts`);
      return "next";
    }
    for (const [index, context] of selected.entries()) {
      const id = isSet ? contextId(index) : 0;
      this.#reply(header, optionReply.metaContext, encodeMetaContext({ id, name: context }));
    }
    this.#reply(header, optionReply.ack);
    if (isSet) {
      this.#contextNames = selected;
      this.#contextsExport = opened.name;
    }
    return "next";
  }

  async #infoOrGo(header: OptionHeader, data: Uint8Array): Promise<Outcome> {
    const { name, wanted } = decodeInfoRequest(data);
    const opened = await this.#choice.open(name);
    const facts = exportFacts(opened.device, this.#style);
    const tell = (info: Parameters<typeof encodeInfo>[0]) =>
      this.#reply(header, optionReply.info, encodeInfo(info));
    tell({ type: "export", ...facts });
    tell({
      type: "block-size",
      minimumBytes: blockMinimumBytes,
      preferredBytes: blockPreferredBytes,
      payloadBytesMax,
    });
    if (wanted.includes(infoType.name)) tell({ type: "name", name: opened.name });
    if (wanted.includes(infoType.description) && opened.description !== "") {
      tell({ type: "description", description: opened.description });
    }
    this.#reply(header, optionReply.ack);
    return header.option === option.go ? this.#agree(opened) : "next";
  }

  #agree(opened: OpenExport): Agreement {
    this.#choice.take();
    // Contexts that were chosen for another export do not count.
    const names = this.#contextsExport === opened.name ? this.#contextNames : [];
    const contexts: ServedContext[] = [];
    for (const [index, name] of names.entries()) {
      const kind = extentKindOf(name);
      if (kind !== undefined) contexts.push({ id: contextId(index), kind });
    }
    return { opened, style: this.#style, contexts, contextNames: names };
  }

  #reply(header: OptionHeader, type: number, data?: Uint8Array): void {
    this.#components.channel.send(encodeOptionReply(header.option, type, data));
  }

  #refuse(header: OptionHeader, type: number, message: string): void {
    this.#reply(header, type, encodeUtf8(message).subarray(0, stringBytesMax));
  }
}

const refusalTypes: Record<ErrorCode, number> = {
  invalid: optionError.invalid,
  "not-found": optionError.unknown,
  exists: optionError.invalid,
  busy: optionError.policy,
  denied: optionError.policy,
  "read-only": optionError.policy,
  "no-space": optionError.platform,
  io: optionError.platform,
  corrupt: optionError.platform,
  unsupported: optionError.platform,
  closed: optionError.shutdown,
};

/** Not 0, so that a client that mixes them up with the zeros of LIST_META_CONTEXT is found out. */
function contextId(index: number): number {
  return index + 1;
}

function expectEmpty(data: Uint8Array): void {
  if (data.length > 0) throw new KelpieError("invalid", "the option takes no data");
}

function exportFacts(device: BlockDevice, style: HeaderStyle) {
  const flag = transmissionFlag;
  // All connections of an export share its device, so a flush on one covers the others.
  let flags = flag.hasFlags | flag.sendFlush | flag.sendFua | flag.canMultiConnect | flag.sendCache;
  if (style !== "simple") flags |= flag.sendDontFragment;
  if (device.readOnly) flags |= flag.readOnly;
  else flags |= flag.sendTrim | flag.sendWriteZeroes | flag.sendFastZero;
  return { sizeBytes: device.sizeBytes, transmissionFlags: flags };
}
