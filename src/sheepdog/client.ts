import { KelpieError } from "../base/errors.ts";
import type { Answer, Call } from "./client-connection.ts";
import { isRefused, RefusedError } from "./client-errors.ts";
import {
  type LinkComponents,
  type LinkSettings,
  type SendOptions,
  SheepLink,
} from "./client-link.ts";
import { result } from "./results.ts";
import { formatOid, inodeOid, type Oid } from "./wire-oid.ts";
import { opcode, requestFlag, vidBitmapBytes } from "./wire-opcodes.ts";
import {
  encodeObjectRequest,
  encodePlainRequest,
  encodeVdiRequest,
  type VdiFields,
} from "./wire-request.ts";
import {
  type ClusterDefault,
  decodeClusterDefault,
  decodeVdiAnswer,
  type VdiAnswer,
} from "./wire-response.ts";
import { encodeSelectorText } from "./wire-text.ts";

/** A point of a name: the working VDI, or a snapshot by tag or by id. */
export interface RemoteSelector {
  name: string;
  tag?: string;
  snapId?: number;
}

export interface ObjectWrite {
  oid: Oid;
  /** In the object, in bytes. */
  offset: number;
  chunks: readonly Uint8Array[];
  copies?: number;
  copyPolicy?: number;
}

/**
 * The requests of the protocol, one method each. A refusal is thrown as RefusedError with the server's
 * result. What may be executed twice is sent again when the connection is lost; the rest fails with
 * LostAnswerError.
 */
export class SheepdogClient {
  readonly #link: SheepLink;
  /** Vids that are another client's now, and why. */
  readonly #lost = new Map<number, KelpieError>();

  private constructor(link: SheepLink) {
    this.#link = link;
  }

  static async connect(
    settings: LinkSettings,
    components: LinkComponents,
  ): Promise<SheepdogClient> {
    return new SheepdogClient(await SheepLink.open(settings, components));
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  /** What is asked from then on, or has no answer, fails after a while. */
  closeSoon(): void {
    this.#link.closeSoon();
  }

  /** Of the vid nothing is written any more, also not what is waiting, until it is locked again. */
  lose(vid: number, error: KelpieError): void {
    this.#lost.set(vid, error);
  }

  /**
   * Runs when a lost connection was made again, before anything else is sent; what it sends itself must
   * be sent `first`. It must not fail.
   */
  set reconnected(action: () => Promise<void>) {
    this.#link.reconnected = action;
  }

  /** Fills all of `target`. */
  async readObject(oid: Oid, offset: number, target: Uint8Array): Promise<void> {
    const what = `read of object ${formatOid(oid)}`;
    const answer = await this.call(what, {
      opcode: opcode.readObject,
      flags: requestFlag.direct,
      encode: (prefix) => encodeObjectRequest(prefix, { oid, offset }),
      target,
    });
    if (answer.receivedBytes === target.length) return;
    throw new KelpieError("io", `${what}: ${answer.receivedBytes} of ${target.length} bytes came`);
  }

  async writeObject(write: ObjectWrite): Promise<void> {
    const { oid, offset, chunks, copies = 0, copyPolicy = 0 } = write;
    await this.call(`write of object ${formatOid(oid)}`, {
      opcode: opcode.writeObject,
      flags: requestFlag.direct,
      encode: (prefix) => encodeObjectRequest(prefix, { oid, offset, copies, copyPolicy }),
      refusal: () => this.#lost.get(oid.vid),
      payload: chunks,
    });
  }

  /** Makes the whole object: zeros, or what `copyFrom` has, and the chunks over it. */
  async createObject(write: ObjectWrite & { copyFrom?: Oid | undefined }): Promise<void> {
    const { oid, offset, chunks, copyFrom, copies = 0, copyPolicy = 0 } = write;
    const fields = { oid, copyFrom, offset, copies, copyPolicy };
    const copying = copyFrom === undefined ? 0 : requestFlag.copyOnWrite;
    await this.call(`creation of object ${formatOid(oid)}`, {
      opcode: opcode.createAndWriteObject,
      flags: requestFlag.direct | copying,
      encode: (prefix) => encodeObjectRequest(prefix, fields),
      refusal: () => this.#lost.get(oid.vid),
      payload: chunks,
    });
  }

  /** False if the server has nothing to flush, now or ever. */
  async flush(vid: number): Promise<boolean> {
    try {
      await this.call("flush", {
        opcode: opcode.flushVdi,
        encode: (prefix) => encodeObjectRequest(prefix, { oid: inodeOid(vid) }),
      });
      return true;
    } catch (error) {
      if (isRefused(error, result.invalidParameters)) return false;
      throw error;
    }
  }

  lookup(selector: RemoteSelector): Promise<VdiAnswer> {
    return this.#select(opcode.getVdiInfo, selector);
  }

  /** As lookup, and nobody else can lock it, if the cluster has locks. */
  async lock(selector: RemoteSelector, options: { first?: boolean } = {}): Promise<VdiAnswer> {
    const answer = await this.#select(opcode.lockVdi, selector, { ...options, once: true });
    this.#lost.delete(answer.vid);
    return answer;
  }

  async release(name: string, vid: number): Promise<void> {
    await this.call(`release of "${name}"`, {
      opcode: opcode.releaseVdi,
      encode: (prefix) => encodeVdiRequest(prefix, { baseVid: vid }),
      payload: [encodeSelectorText(name)],
    });
  }

  /** Create, clone, snapshot or rebase. Sent once. */
  async newVdi(name: string, fields: Partial<VdiFields>): Promise<VdiAnswer> {
    const answer = await this.call(
      `"${name}"`,
      {
        opcode: opcode.newVdi,
        encode: (prefix) => encodeVdiRequest(prefix, fields),
        payload: [encodeSelectorText(name)],
      },
      { once: true },
    );
    return decodeVdiAnswer(answer.header, 0);
  }

  /** Sent once. */
  async deleteVdi(selector: RemoteSelector): Promise<void> {
    await this.#select(opcode.deleteVdi, selector, { once: true });
  }

  /** Bit n of byte n >> 3 is vid n. */
  readVdis(): Promise<Uint8Array> {
    return this.#bitmap("list of vids", opcode.readVdis);
  }

  /** Empty for a server that does not keep it. */
  async readDeletedVdis(): Promise<Uint8Array> {
    try {
      return await this.#bitmap("list of deleted vids", opcode.readDeletedVdis);
    } catch (error) {
      if (isRefused(error, result.invalidParameters, result.versionMismatch)) {
        return new Uint8Array(vidBitmapBytes);
      }
      throw error;
    }
  }

  /** Undefined for a server older than the question. */
  async clusterDefault(): Promise<ClusterDefault | undefined> {
    try {
      const call = { opcode: opcode.getClusterDefault, encode: encodePlainRequest };
      const answer = await this.call("cluster's defaults", call);
      return decodeClusterDefault(answer.header, 0);
    } catch (error) {
      if (isRefused(error, result.invalidParameters)) return undefined;
      throw error;
    }
  }

  /** Throws RefusedError, with `what` in front, for any result but success. */
  async call(what: string, call: Call, options?: SendOptions): Promise<Answer> {
    const answer = await this.#link.send(call, options);
    if (answer.result === result.success) return answer;
    throw new RefusedError(what, answer.result);
  }

  /** Any result is an answer. */
  ask(call: Call): Promise<Answer> {
    return this.#link.send(call, { anyResult: true });
  }

  async #select(
    number: number,
    selector: RemoteSelector,
    options?: SendOptions,
  ): Promise<VdiAnswer> {
    const { name, tag = "", snapId = 0 } = selector;
    const call: Call = {
      opcode: number,
      encode: (prefix) => encodeVdiRequest(prefix, { snapId }),
      payload: [encodeSelectorText(name, tag)],
    };
    const answer = await this.call(describeSelector(selector), call, options);
    return decodeVdiAnswer(answer.header, 0);
  }

  async #bitmap(what: string, number: number): Promise<Uint8Array> {
    const target = new Uint8Array(vidBitmapBytes);
    const answer = await this.call(what, { opcode: number, encode: encodePlainRequest, target });
    if (answer.receivedBytes === target.length) return target;
    throw new KelpieError("io", `${what}: ${answer.receivedBytes} bytes came`);
  }
}

export function describeSelector({ name, tag = "", snapId = 0 }: RemoteSelector): string {
  if (tag !== "") return `disk "${name}", snapshot "${tag}"`;
  return snapId === 0 ? `disk "${name}"` : `disk "${name}", snapshot ${snapId}`;
}
