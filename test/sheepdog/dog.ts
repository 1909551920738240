import assert from "node:assert/strict";
import { joinBytes } from "../../src/base/bytes.ts";
import { describeResult, result } from "../../src/sheepdog/results.ts";
import {
  attributeBytes,
  decodeAttribute,
  encodeAttribute,
} from "../../src/sheepdog/wire-attribute.ts";
import { clusterInfoBytes, decodeClusterInfo } from "../../src/sheepdog/wire-cluster.ts";
import {
  decodeInodeEntries,
  decodeInodeHeader,
  encodeInodeEntries,
  type InodeHeader,
  inodeBytesMax,
  inodeEntriesAt,
  inodeFieldAt,
  inodeHeaderBytes,
} from "../../src/sheepdog/wire-inode.ts";
import { encodeOid, inodeOid, type Oid } from "../../src/sheepdog/wire-oid.ts";
import { opcode, requestFlag, vidBitmapBytes } from "../../src/sheepdog/wire-opcodes.ts";
import {
  encodeObjectRequest,
  encodeVdiRequest,
  type ObjectFields,
  type VdiFields,
} from "../../src/sheepdog/wire-request.ts";
import { decodeVdiAnswer } from "../../src/sheepdog/wire-response.ts";
import { encodeSelectorText } from "../../src/sheepdog/wire-text.ts";
import {
  decodeVdiStates,
  vdiStateBytes,
  type WireVdiState,
} from "../../src/sheepdog/wire-vdi-state.ts";
import type { RawReply, RawSheepdog } from "../support/raw-sheepdog.ts";

/** A tag, or a snap id; neither is the working VDI. */
export interface DogSelector {
  tag?: string;
  snapId?: number;
}

/** What `vdi list` knows of a VDI. */
export interface ListedVdi {
  header: InodeHeader;
  /** Objects that are its own, and that belong to others. */
  ownObjects: number;
  sharedObjects: number;
}

/** A failure that `dog` would print: the result code. */
export class DogError extends Error {
  readonly result: number;

  constructor(what: string, code: number) {
    super(`${what}: ${describeResult(code)}`);
    this.result = code;
  }
}

const direct = requestFlag.direct;
/** Entries in use that one write of the inode wipes. */
const wipeBatch = 128;

/** What `dog` asks for, in its order (facts page, 13 and 9). It keeps its connection. */
export class Dog {
  readonly #connection: RawSheepdog;

  constructor(connection: RawSheepdog) {
    this.#connection = connection;
  }

  /** The command is over. */
  close(): void {
    this.#connection.connection.end();
  }

  /** `vdi create`: the vid. */
  async create(name: string, sizeBytes: number, copies = 0): Promise<number> {
    const info = await this.#ask(opcode.clusterInfo, clusterInfoBytes);
    assert.notEqual(decodeClusterInfo(info.payload).createdMs, 0, "formatted");
    return this.#newVdi(name, { sizeBytes, copies });
  }

  /** `vdi create -P`: every object is made, empty, and entered into the inode. */
  async createAllocated(name: string, sizeBytes: number): Promise<number> {
    const vid = await this.create(name, sizeBytes);
    const { objectBytes } = await this.#open(name);
    for (let index = 0; index < sizeBytes / objectBytes; index++) {
      await this.#send(opcode.createAndWriteObject, { oid: { kind: "data", vid, index } });
      await this.#writeEntries(vid, index, [vid]);
    }
    return vid;
  }

  /** `vdi snapshot`: the tag goes into the inode that becomes the snapshot. */
  async snapshot(name: string, tag: string): Promise<{ workingVid: number; snapshotVid: number }> {
    await this.#mustNotExist(name, tag);
    const { vid, header } = await this.#open(name);
    const { sizeBytes, copies, copyPolicy } = header;
    const field = Buffer.alloc(256);
    field.write(tag);
    await this.#send(opcode.writeObject, { oid: inodeOid(vid), offset: inodeFieldAt.tag }, field);
    const fields = { sizeBytes, baseVid: vid, copies, copyPolicy, snapId: 1 };
    return { workingVid: await this.#newVdi(name, fields), snapshotVid: vid };
  }

  async #mustNotExist(name: string, tag: string): Promise<void> {
    const { code } = await this.#find(name, { tag });
    if (code !== result.noVdi && code !== result.noTag) throw new DogError("snapshot", code);
  }

  /** `vdi clone`. */
  async clone(source: string, selector: DogSelector, target: string): Promise<number> {
    const { vid, header } = await this.#open(source, selector);
    if (header.snapshotMs === 0) throw new Error("Only snapshot VDIs can be cloned");
    const { sizeBytes, copies, copyPolicy } = header;
    return this.#newVdi(target, { sizeBytes, baseVid: vid, copies, copyPolicy });
  }

  /** `vdi delete`: first the map, in batches, then the VDI. */
  async delete(name: string, selector: DogSelector = {}): Promise<void> {
    const { vid, entries } = await this.#open(name, selector);
    for (let index = 0; index < entries.length; ) {
      if (entries[index] === 0) {
        index++;
        continue;
      }
      const first = index;
      let end = index;
      for (let used = 0; index < entries.length && used < wipeBatch; index++) {
        if (entries[index] === 0) continue;
        used++;
        end = index + 1;
      }
      await this.#writeEntries(vid, first, new Uint32Array(end - first));
    }
    await this.#named(opcode.deleteVdi, name, selector);
  }

  /** `vdi rollback -f`. */
  async rollback(name: string, selector: DogSelector): Promise<number> {
    const { vid, header } = await this.#open(name, selector);
    await this.delete(name);
    const { sizeBytes, copies, copyPolicy } = header;
    return this.#newVdi(name, { sizeBytes, baseVid: vid, copies, copyPolicy });
  }

  /** `vdi list`, by vid. */
  async list(): Promise<ListedVdi[]> {
    const inUse = await this.#ask(opcode.readVdis, vidBitmapBytes);
    const deleted = await this.#ask(opcode.readDeletedVdis, vidBitmapBytes);
    const listed: ListedVdi[] = [];
    for (let vid = 0; vid < 8 * vidBitmapBytes; vid++) {
      const mask = 1 << (vid & 7);
      if (inUse.payload[vid >> 3] === 0) vid += 7;
      else if (((inUse.payload[vid >> 3] as number) & mask) === 0) continue;
      else if (((deleted.payload[vid >> 3] as number) & mask) !== 0) continue;
      else {
        const head = await this.#read(inodeOid(vid), 0, 4672);
        const header = decodeInodeHeader(head);
        if (header.name === "") continue;
        const entries = await this.#entries(vid, header);
        const own = entries.filter((entry) => entry === vid).length;
        const sharedObjects = entries.filter((entry) => entry !== 0).length - own;
        listed.push({ header, ownObjects: own, sharedObjects });
      }
    }
    return listed;
  }

  /** `vdi tree`: each VDI with what stands on it, as "test(s1(s2(you are here)))". */
  async tree(name: string): Promise<string> {
    const all = (await this.list()).map(({ header }) => header).filter((one) => one.name === name);
    const vids = new Set(all.map(({ vid }) => vid));
    const label = (one: InodeHeader) => (one.snapshotMs === 0 ? "you are here" : one.tag);
    const below = (parent: number): string[] =>
      all
        .filter((one) => (vids.has(one.parentVid) ? one.parentVid : 0) === parent)
        .map((one) => [label(one), ...below(one.vid)])
        .map(([own, ...rest]) => (rest.length > 0 ? `${own}(${rest.join(" ")})` : `${own}`));
    return `${name}(${below(0).join(" ")})`;
  }

  /** `vdi object map`: index and vid of what is not a hole. */
  async objectMap(name: string, selector: DogSelector = {}): Promise<[number, number][]> {
    const { entries } = await this.#open(name, selector);
    return [...entries.entries()].filter(([, vid]) => vid !== 0);
  }

  /** `vdi read`. */
  async read(
    name: string,
    offset: number,
    length: number,
    selector: DogSelector = {},
  ): Promise<Buffer> {
    const { entries, objectBytes } = await this.#open(name, selector);
    const parts: Uint8Array[] = [];
    for (let done = 0; done < length; ) {
      const { index, at, count } = placeOf(offset + done, length - done, objectBytes);
      const vid = entries[index] ?? 0;
      const hole = vid === 0;
      const oid: Oid = { kind: "data", vid, index };
      parts.push(hole ? new Uint8Array(count) : await this.#read(oid, at, count));
      done += count;
    }
    return Buffer.from(joinBytes(parts));
  }

  /** `vdi write`: each object, and at once its entry. */
  async write(name: string, offset: number, bytes: Uint8Array): Promise<void> {
    const { vid, entries, objectBytes } = await this.#open(name);
    for (let done = 0; done < bytes.length; ) {
      const { index, at, count } = placeOf(offset + done, bytes.length - done, objectBytes);
      const owner = entries[index] ?? 0;
      const oid: Oid = { kind: "data", vid, index };
      const code = owner === vid ? opcode.writeObject : opcode.createAndWriteObject;
      const copies = owner !== vid && owner !== 0;
      const copyFrom: Oid = { kind: "data", vid: owner, index };
      const fields = { oid, offset: at, ...(copies && { copyFrom }) };
      await this.#send(code, fields, bytes.slice(done, done + count));
      if (owner !== vid) await this.#writeEntries(vid, index, [vid]);
      done += count;
    }
  }

  /** `vdi resize`. */
  async resize(name: string, sizeBytes: number): Promise<void> {
    const { vid, bytes } = await this.#open(name);
    const header = Buffer.from(bytes.subarray(0, inodeHeaderBytes));
    header.writeBigUInt64LE(BigInt(sizeBytes), inodeFieldAt.size);
    await this.#send(opcode.writeObject, { oid: inodeOid(vid), offset: 0 }, header);
  }

  /** `vdi backup`: the objects that differ, whole. */
  async backup(name: string, from: DogSelector, to: DogSelector): Promise<Map<number, Buffer>> {
    const [before, after] = [await this.#open(name, from), await this.#open(name, to)];
    const changed = new Map<number, Buffer>();
    for (const [index, vid] of after.entries.entries()) {
      if (vid === (before.entries[index] ?? 0)) continue;
      const length = after.objectBytes;
      changed.set(index, await this.read(name, index * length, length, to));
    }
    return changed;
  }

  /** `vdi restore`: onto the snapshot that was the backup's base; the working VDI goes on as it was. */
  async restore(name: string, base: DogSelector, objects: Map<number, Buffer>): Promise<void> {
    const working = await this.#open(name);
    const { vid, header, objectBytes } = await this.#open(name, base);
    const { sizeBytes, copies, copyPolicy } = header;
    await this.delete(name);
    await this.#newVdi(name, { sizeBytes, baseVid: vid, copies, copyPolicy });
    for (const [index, bytes] of objects) await this.write(name, index * objectBytes, bytes);
    const baseVid = working.header.parentVid;
    await this.#newVdi(name, { sizeBytes, baseVid, copies, copyPolicy, snapId: 1 });
  }

  /** `vdi setattr`; `exclusive` is -x. */
  async setAttribute(
    name: string,
    key: string,
    value: string,
    { exclusive = false }: { exclusive?: boolean } = {},
  ): Promise<void> {
    const { attributeCreate, attributeExclusive } = requestFlag;
    const flags = attributeCreate | (exclusive ? attributeExclusive : 0);
    await this.#attribute(name, key, { flags, value });
  }

  /** `vdi setattr -d`. */
  async deleteAttribute(name: string, key: string): Promise<void> {
    await this.#attribute(name, key, { flags: requestFlag.attributeDelete, value: "" });
  }

  /** `vdi getattr`. */
  async getAttribute(name: string, key: string): Promise<string> {
    const { vid, attributeId } = await this.#attribute(name, key, { flags: 0, value: "" });
    const oid: Oid = { kind: "attribute", vid, index: attributeId };
    const { value } = decodeAttribute(await this.#read(oid, 0, attributeBytes));
    return Buffer.from(value).toString();
  }

  async #attribute(name: string, key: string, { flags, value }: { flags: number; value: string }) {
    const attribute = { name, tag: "", createdMs: 0, snapId: 0, key, value: Buffer.from(value) };
    const payload = encodeAttribute(attribute);
    const given = { flags: requestFlag.write | flags };
    const reply = await this.#connection.tell(opcode.getVdiAttribute, payload, given);
    if (reply.result !== result.success) throw new DogError("attribute", reply.result);
    return decodeVdiAnswer(reply.header, 0);
  }

  /** `vdi lock list`: asks again with twice the room until it is enough. */
  async lockList(): Promise<WireVdiState[]> {
    for (let room = 1; ; room *= 2) {
      const reply = await this.#connection.plain(opcode.getVdiCopies, room * vdiStateBytes);
      if (reply.result === result.bufferSmall) continue;
      if (reply.result !== result.success) throw new DogError("lock list", reply.result);
      return decodeVdiStates(reply.payload).filter(({ lockState }) => lockState !== 1);
    }
  }

  /** `vdi lock unlock`. */
  async unlock(vid: number, lockType = 0): Promise<void> {
    const prefix = { ...this.#connection.prefix(opcode.releaseVdi), protocolVersion: 2 };
    this.#connection.send(encodeVdiRequest(prefix, { baseVid: vid, lockType }));
    assert.equal((await this.#connection.reply()).result, result.success);
  }

  /** `vdi check -e`: what is missing. */
  async missing(name: string, selector: DogSelector = {}): Promise<number> {
    const { vid, entries } = await this.#open(name, selector);
    const used = [...entries.entries()].filter(([, owner]) => owner !== 0);
    const oids: Oid[] = used.map(([index, owner]) => ({ kind: "data", vid: owner, index }));
    oids.push(inodeOid(vid));
    const payload = new Uint8Array(8 * oids.length);
    for (const [index, oid] of oids.entries()) encodeOid(payload, 8 * index, oid);
    const given = { flags: requestFlag.write | requestFlag.piggyback };
    const reply = await this.#connection.tell(opcode.oidsExist, payload, given);
    return reply.payload.length / 8;
  }

  async #newVdi(name: string, fields: Partial<VdiFields>): Promise<number> {
    const payload = encodeSelectorText(name);
    const given = { flags: requestFlag.write, dataLength: payload.length, protocolVersion: 2 };
    const prefix = this.#connection.prefix(opcode.newVdi, given);
    this.#connection.send(encodeVdiRequest(prefix, fields), payload);
    return this.#vidOf(await this.#connection.reply(), "create");
  }

  async #named(code: number, name: string, selector: DogSelector): Promise<number> {
    const { tag = "", snapId = 0 } = selector;
    const payload = encodeSelectorText(name, tag);
    const given = { flags: requestFlag.write, dataLength: payload.length, protocolVersion: 2 };
    this.#connection.send(
      encodeVdiRequest(this.#connection.prefix(code, given), { snapId }),
      payload,
    );
    return this.#vidOf(await this.#connection.reply(), name);
  }

  #vidOf(reply: RawReply, what: string): number {
    assert.equal(reply.dataLength, 0, "nobody would read it");
    if (reply.result !== result.success) throw new DogError(what, reply.result);
    return decodeVdiAnswer(reply.header, 0).vid;
  }

  async #find(name: string, selector: DogSelector): Promise<{ vid: number; code: number }> {
    try {
      return { vid: await this.#named(opcode.getVdiInfo, name, selector), code: result.success };
    } catch (error) {
      if (error instanceof DogError) return { vid: 0, code: error.result };
      throw error;
    }
  }

  /** The inode, whole, as the newest `dog` has it. */
  async #open(name: string, selector: DogSelector = {}) {
    const vid = await this.#named(opcode.getVdiInfo, name, selector);
    const bytes = await this.#read(inodeOid(vid), 0, inodeBytesMax);
    const header = decodeInodeHeader(bytes);
    const objectBytes = 2 ** header.blockSizeShift;
    const count = Math.ceil(header.sizeBytes / objectBytes);
    const end = inodeEntriesAt + 4 * count;
    const entries = decodeInodeEntries(bytes.subarray(inodeEntriesAt, end));
    return { vid, bytes, header, entries, objectBytes };
  }

  async #entries(vid: number, { sizeBytes, blockSizeShift }: InodeHeader): Promise<Uint32Array> {
    const count = Math.ceil(sizeBytes / 2 ** blockSizeShift);
    return decodeInodeEntries(await this.#read(inodeOid(vid), inodeEntriesAt, 4 * count));
  }

  #writeEntries(vid: number, first: number, vids: ArrayLike<number>): Promise<void> {
    const fields = { oid: inodeOid(vid), offset: inodeEntriesAt + 4 * first };
    return this.#send(opcode.writeObject, fields, encodeInodeEntries(vids));
  }

  async #read(oid: Oid, offset: number, dataLength: number): Promise<Uint8Array> {
    const given = { flags: direct, dataLength, protocolVersion: 2 };
    const prefix = this.#connection.prefix(opcode.readObject, given);
    this.#connection.send(encodeObjectRequest(prefix, { oid, offset }));
    const reply = await this.#connection.reply();
    if (reply.result !== result.success) throw new DogError("read", reply.result);
    assert.equal(reply.payload.length, dataLength);
    return reply.payload;
  }

  async #send(
    code: number,
    fields: Partial<ObjectFields> & { oid: Oid },
    payload: Uint8Array = new Uint8Array(0),
  ): Promise<void> {
    const copy = fields.copyFrom === undefined ? 0 : requestFlag.copyOnWrite;
    const given = { flags: requestFlag.write | direct | copy, protocolVersion: 2 };
    this.#connection.send(...this.#connection.writeRequest(code, fields, payload, given));
    const reply = await this.#connection.reply();
    assert.equal(reply.dataLength, 0, "nobody would read it");
    if (reply.result !== result.success) throw new DogError("write", reply.result);
  }

  /** A request without fields. */
  async #ask(code: number, dataLength: number): Promise<RawReply> {
    const protocolVersion = code < 0x80 ? 2 : 10;
    const reply = await this.#connection.plain(code, dataLength, { protocolVersion });
    if (reply.result !== result.success) throw new DogError("ask", reply.result);
    return reply;
  }
}

function placeOf(offset: number, length: number, objectBytes: number) {
  const at = offset % objectBytes;
  return {
    index: Math.floor(offset / objectBytes),
    at,
    count: Math.min(length, objectBytes - at),
  };
}
