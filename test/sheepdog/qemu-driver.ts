import assert from "node:assert/strict";
import { describeResult, result } from "../../src/sheepdog/results.ts";
import { vdiNameHash } from "../../src/sheepdog/wire-hash.ts";
import {
  decodeInodeHeader,
  inodeBytes,
  inodeEntriesAt,
  inodeHeaderBytes,
} from "../../src/sheepdog/wire-inode.ts";
import { inodeOid, type Oid } from "../../src/sheepdog/wire-oid.ts";
import { opcode, requestFlag, vidBitmapBytes } from "../../src/sheepdog/wire-opcodes.ts";
import {
  encodeObjectRequest,
  encodeVdiRequest,
  type VdiFields,
} from "../../src/sheepdog/wire-request.ts";
import { decodeVdiAnswer } from "../../src/sheepdog/wire-response.ts";
import { encodeSelectorText } from "../../src/sheepdog/wire-text.ts";
import type { RawReply, RawSheepdog } from "../support/raw-sheepdog.ts";

type Connect = () => Promise<RawSheepdog>;

/** Of a snapshot: decimal digits are a snap id, anything else a tag. */
interface Selector {
  tag: string;
  snapId: number;
}

const cache = requestFlag.cache;

/**
 * What QEMU 5.0's driver asks for, in its order and with its flags (facts page, 10 and 12), with the
 * mistakes it has. One image that is open.
 */
export class QemuDriver {
  readonly name: string;
  readonly #connect: Connect;
  readonly #io: RawSheepdog;
  /** The inode as the driver has it in memory: 4,198,968 bytes. */
  #inode: Buffer;

  private constructor(parts: { name: string; connect: Connect; io: RawSheepdog; inode: Buffer }) {
    this.name = parts.name;
    this.#connect = parts.connect;
    this.#io = parts.io;
    this.#inode = parts.inode;
  }

  /** `qemu-img create`: the vid. */
  static async create(
    connect: Connect,
    name: string,
    sizeBytes: number,
    base = 0,
  ): Promise<number> {
    const asking = await connect();
    const { header } = await asking.plain(opcode.getClusterDefault, 0, {
      protocolVersion: 1,
      id: 0,
    });
    asking.connection.end();
    const blockSizeShift = header[22] ?? 0;
    const fields = { sizeBytes, baseVid: base, blockSizeShift };
    const { reply, vid } = await vdiRequest(connect, opcode.newVdi, { name, fields });
    expectSuccess(reply, "create");
    return vid;
  }

  static async open(connect: Connect, name: string, snapshot = ""): Promise<QemuDriver> {
    const io = await connect();
    const { tag, snapId } = selectorOf(snapshot);
    const asked = { name, tag, fields: { snapId }, protocolVersion: 1 };
    const { reply, vid } = await vdiRequest(connect, opcode.lockVdi, asked);
    expectSuccess(reply, "cannot get vdi info");
    const inode = await readInode(connect, vid, inodeBytes);
    return new QemuDriver({ name, connect, io, inode });
  }

  async close(): Promise<void> {
    const connection = await this.#connect();
    const payload = Buffer.from(`${this.name}\0`);
    const prefix = { flags: requestFlag.write, dataLength: payload.length };
    const request = connection.prefix(opcode.releaseVdi, prefix);
    connection.send(encodeVdiRequest(request, { baseVid: this.vid }), payload);
    expectSuccess(await connection.reply(), "close");
    connection.connection.end();
    this.#io.connection.end();
  }

  get header() {
    return decodeInodeHeader(this.#inode);
  }

  get vid(): number {
    return this.header.vid;
  }

  get objectBytes(): number {
    return 2 ** this.header.blockSizeShift;
  }

  /** Which object of the disk is whose. */
  entry(index: number): number {
    return this.#inode.readUInt32LE(inodeEntriesAt + 4 * index);
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const pieces = this.#pieces(offset, length);
    const wanted: { id: number; oid: Oid; offset: number; length: number }[] = [];
    const parts: Buffer[] = pieces.map(({ length: count }) => Buffer.alloc(count));
    for (const [id, piece] of pieces.entries()) {
      const vid = this.entry(piece.index);
      if (vid === 0) continue;
      wanted.push({ ...piece, id, oid: { kind: "data", vid, index: piece.index } });
    }
    for (const { id, oid, offset: at, length: dataLength } of wanted) {
      const prefix = this.#io.prefix(opcode.readObject, { id, flags: cache, dataLength });
      this.#io.send(encodeObjectRequest(prefix, { oid, offset: at }));
    }
    for (let count = 0; count < wanted.length; count++) {
      const reply = await this.#io.reply();
      expectSuccess(reply, "read");
      const part = parts[reply.id] as Buffer;
      assert.equal(reply.payload.length, part.length, "a short answer would not be filled up");
      part.set(reply.payload);
    }
    return Buffer.concat(parts);
  }

  /** All objects at once; then what the inode needs. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (offset + bytes.length > this.header.sizeBytes) await this.truncate(offset + bytes.length);
    const pieces = this.#pieces(offset, bytes.length);
    const created: number[] = [];
    let waiting = [...pieces.keys()];
    while (waiting.length > 0) {
      const creates = new Map(waiting.map((id) => [id, this.#sendWrite(id, pieces[id], bytes)]));
      const readOnly: number[] = [];
      for (let count = waiting.length; count > 0; count--) {
        const { id, result: code } = await this.#io.reply();
        if (code === result.readOnly) readOnly.push(id);
        else expectSuccess({ result: code }, "write");
        if (code !== result.success || creates.get(id) !== true) continue;
        const index = pieces[id]?.index ?? 0;
        created.push(index);
        this.#inode.writeUInt32LE(this.vid, inodeEntriesAt + 4 * index);
      }
      if (readOnly.length > 0) await this.#reload();
      waiting = readOnly;
    }
    if (created.length === 0) return;
    await this.#writeEntries(Math.min(...created), Math.max(...created));
  }

  /** True if it creates the object. */
  #sendWrite(id: number, piece: Piece | undefined, bytes: Uint8Array): boolean {
    assert.ok(piece !== undefined);
    const { index, offset, from, length } = piece;
    const owner = this.entry(index);
    const creates = owner !== this.vid;
    const copyFrom: Oid = { kind: "data", vid: owner, index };
    const copies = creates && owner !== 0;
    const flags = requestFlag.write | cache | (copies ? requestFlag.copyOnWrite : 0);
    const code = creates ? opcode.createAndWriteObject : opcode.writeObject;
    const prefix = this.#io.prefix(code, { id, flags, dataLength: length });
    const oid: Oid = { kind: "data", vid: this.vid, index };
    const fields = { oid, offset, copies: this.header.copies, ...(copies && { copyFrom }) };
    this.#io.send(encodeObjectRequest(prefix, fields), bytes.slice(from, from + length));
    return creates;
  }

  async #writeEntries(first: number, last: number): Promise<void> {
    const at = inodeEntriesAt + 4 * first;
    const bytes = this.#inode.subarray(at, inodeEntriesAt + 4 * (last + 1));
    const oid = inodeOid(this.vid);
    const fields = { oid, offset: at, copies: this.header.copies };
    const given = { flags: requestFlag.write | cache };
    this.#io.send(...this.#io.writeRequest(opcode.writeObject, fields, Buffer.from(bytes), given));
    expectSuccess(await this.#io.reply(), "inode");
  }

  /** Another client has taken a snapshot: only the header is read, because the map is the same. */
  async #reload(): Promise<void> {
    const asked = { name: this.name, tag: "", protocolVersion: 1 };
    const { reply, vid } = await vdiRequest(this.#connect, opcode.getVdiInfo, asked);
    expectSuccess(reply, "reload");
    const header = await readInode(this.#connect, vid, inodeHeaderBytes);
    if (vid !== this.vid) this.#inode.set(header);
  }

  /** A whole object, which must be there. */
  async discard(index: number): Promise<void> {
    this.#inode.writeUInt32LE(0, inodeEntriesAt + 4 * index);
    await this.#writeEntries(index, index);
  }

  /** Of QEMU 1.5 to 2.4: a request of its own, for an object that is the image's own. */
  async discardObject(index: number): Promise<void> {
    if (this.entry(index) !== this.vid) return;
    const oid: Oid = { kind: "data", vid: this.vid, index };
    expectSuccess(await this.#io.object(opcode.discardObject, oid, { flags: cache }), "discard");
    this.#inode.writeUInt32LE(0, inodeEntriesAt + 4 * index);
  }

  async flush(): Promise<void> {
    const reply = await this.#io.object(opcode.flushVdi, inodeOid(this.vid), { flags: cache });
    expectSuccess(reply, "flush");
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#inode.writeBigUInt64LE(BigInt(sizeBytes), 536);
    await this.#writeHeader();
  }

  async #writeHeader(): Promise<void> {
    const connection = await this.#connect();
    const header = Buffer.from(this.#inode.subarray(0, inodeHeaderBytes));
    expectSuccess({ result: await connection.write(inodeOid(this.vid), 0, header) }, "header");
    connection.connection.end();
  }

  /** `savevm`, after the machine's state; `qemu-img snapshot -c`. */
  async snapshotCreate(
    tag: string,
    vm: { stateBytes?: number; clockNs?: number } = {},
  ): Promise<void> {
    this.#inode.fill(0, 256, 512);
    this.#inode.write(tag, 256);
    this.#inode.writeBigUInt64LE(BigInt(vm.clockNs ?? 0), 528);
    this.#inode.writeBigUInt64LE(BigInt(vm.stateBytes ?? 0), 544);
    await this.#writeHeader();
    const { sizeBytes, copies, copyPolicy, blockSizeShift } = this.header;
    const settings = { sizeBytes, copies, copyPolicy, blockSizeShift };
    const fields = { ...settings, baseVid: this.vid, snapId: 1 };
    const { reply, vid } = await vdiRequest(this.#connect, opcode.newVdi, {
      name: this.name,
      fields,
    });
    expectSuccess(reply, "failed to create inode for snapshot");
    this.#inode.set(await readInode(this.#connect, vid, inodeHeaderBytes));
  }

  /** `qemu-img snapshot -l`: the run of vids from the hash of the name on. */
  async snapshotList(): Promise<{ id: string; tag: string; snapshotMs: number }[]> {
    const connection = await this.#connect();
    const { payload } = await connection.plain(opcode.readVdis, vidBitmapBytes);
    const found: { id: string; tag: string; snapshotMs: number }[] = [];
    for (let vid = vdiNameHash(this.name); vid !== 0; vid = (vid + 1) & 0xffffff) {
      if (((payload[vid >> 3] ?? 0) & (1 << (vid & 7))) === 0) break;
      const reply = await connection.read(inodeOid(vid), 0, inodeHeaderBytes);
      if (reply.result !== result.success) continue;
      const { name, tag, snapId, snapshotMs } = decodeInodeHeader(reply.payload);
      if (name === this.name && snapshotMs !== 0) found.push({ id: `${snapId}`, tag, snapshotMs });
    }
    connection.connection.end();
    return found;
  }

  /** `loadvm`, `qemu-img snapshot -a`: the working VDI is deleted, and one made on the snapshot. */
  async snapshotGoto(snapshot: string): Promise<void> {
    const { tag, snapId } = selectorOf(snapshot);
    const found = { name: this.name, tag, fields: { snapId }, protocolVersion: 1 };
    const target = await vdiRequest(this.#connect, opcode.getVdiInfo, found);
    expectSuccess(target.reply, "goto");
    const { sizeBytes } = decodeInodeHeader(
      await readInode(this.#connect, target.vid, inodeHeaderBytes),
    );
    await this.#branch({ baseVid: target.vid, sizeBytes }, true);
  }

  /**
   * What comes before the first write to a snapshot that was opened, or, before 1.6, gone back to. Before
   * 1.5 the working VDI that is in the way is not deleted.
   */
  async branch({ deletes }: { deletes: boolean }): Promise<void> {
    const { vid, sizeBytes } = this.header;
    await this.#branch({ baseVid: vid, sizeBytes }, deletes);
  }

  async #branch(on: { baseVid: number; sizeBytes: number }, deletes: boolean): Promise<void> {
    const { name } = this;
    const doomed = { name, fields: { baseVid: on.baseVid } };
    const gone = deletes ? await vdiRequest(this.#connect, opcode.deleteVdi, doomed) : undefined;
    const code = gone?.reply.result;
    const isDeleted = code === result.success || code === result.noVdi;
    const fields = { ...on, snapId: isDeleted ? 0 : 1 };
    const made = await vdiRequest(this.#connect, opcode.newVdi, { name, fields });
    expectSuccess(made.reply, "goto");
    this.#inode = await readInode(this.#connect, made.vid, inodeBytes);
  }

  /** `qemu-img snapshot -d`, with its bug: what is wiped first is the image that is open. */
  async snapshotDelete(snapId: string): Promise<number> {
    await this.#wipe();
    const target = { name: this.name, tag: "", fields: { snapId: Number(snapId) } };
    const locked = await vdiRequest(this.#connect, opcode.lockVdi, {
      ...target,
      protocolVersion: 1,
    });
    expectSuccess(locked.reply, "snapshot delete");
    return (await vdiRequest(this.#connect, opcode.deleteVdi, target)).reply.result;
  }

  async #wipe(): Promise<void> {
    const count = Math.ceil(this.header.sizeBytes / this.objectBytes);
    for (let index = 0; index < count; ) {
      if (this.entry(index) === 0) {
        index++;
        continue;
      }
      const first = index;
      for (let used = 0; index < count && used < 128; index++) {
        if (this.entry(index) !== 0) used++;
        this.#inode.writeUInt32LE(0, inodeEntriesAt + 4 * index);
      }
      await this.#writeEntries(first, index - 1);
    }
  }

  async saveVmState(state: Uint8Array, position: number): Promise<void> {
    for (const { index, offset, from, length } of this.#pieces(position, state.length)) {
      const oid: Oid = { kind: "vmstate", vid: this.vid, index };
      const code = offset === 0 ? opcode.createAndWriteObject : opcode.writeObject;
      const fields = { oid, offset, copies: this.header.copies };
      this.#io.send(...this.#io.writeRequest(code, fields, state.slice(from, from + length)));
      expectSuccess(await this.#io.reply(), "save vmstate");
    }
  }

  /** After `snapshotGoto`: the state is that of the snapshot the working VDI stands on. */
  async loadVmState(position: number, length: number): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for (const piece of this.#pieces(position, length)) {
      const oid: Oid = { kind: "vmstate", vid: this.header.parentVid, index: piece.index };
      const reply = await this.#io.read(oid, piece.offset, piece.length);
      expectSuccess(reply, "load vmstate");
      parts.push(reply.payload);
    }
    return Buffer.concat(parts);
  }

  #pieces(offset: number, length: number): Piece[] {
    const pieces: Piece[] = [];
    const { objectBytes } = this;
    for (let from = 0; from < length; ) {
      const at = offset + from;
      const inObject = at % objectBytes;
      const count = Math.min(length - from, objectBytes - inObject);
      const index = Math.floor(at / objectBytes);
      pieces.push({ index, offset: inObject, from, length: count });
      from += count;
    }
    return pieces;
  }
}

/** A part of a request that is in one object; `from` is where it begins in the request. */
interface Piece {
  index: number;
  offset: number;
  from: number;
  length: number;
}

interface VdiRequest {
  name: string;
  tag?: string;
  fields?: Partial<VdiFields>;
  protocolVersion?: number;
}

/** On a connection of its own, with id 0, as all that is not input and output of the image. */
async function vdiRequest(
  connect: Connect,
  code: number,
  { name, tag, fields = {}, protocolVersion = 0 }: VdiRequest,
): Promise<{ reply: RawReply; vid: number }> {
  const connection = await connect();
  const payload = encodeSelectorText(name, tag);
  const given = { flags: requestFlag.write, dataLength: payload.length, protocolVersion, id: 0 };
  connection.send(encodeVdiRequest(connection.prefix(code, given), fields), payload);
  const reply = await connection.reply();
  assert.equal(reply.dataLength, 0, "nobody would read it");
  connection.connection.end();
  return { reply, vid: decodeVdiAnswer(reply.header, 0).vid };
}

async function readInode(connect: Connect, vid: number, length: number): Promise<Buffer> {
  const connection = await connect();
  const reply = await connection.read(inodeOid(vid), 0, length);
  expectSuccess(reply, "inode");
  connection.connection.end();
  return Buffer.from(reply.payload);
}

function selectorOf(snapshot: string): Selector {
  return /^\d+$/.test(snapshot)
    ? { tag: "", snapId: Number(snapshot) }
    : { tag: snapshot, snapId: 0 };
}

function expectSuccess({ result: code }: { result: number }, what: string): void {
  assert.equal(code, result.success, `${what}: ${describeResult(code)}`);
}
