import type { Completion } from "../../base/completion.ts";

/**
 * The disks as Sheepdog's clients see them: vids, objects, inodes as bytes, VDI operations. What a server
 * of that protocol asks for; where the facts come from is in docs/decisions.
 */
export interface Objects {
  /** What a new disk gets when its maker does not say, and what disks of other protocols report. */
  readonly defaults: VdiSettings;

  /** Fails with "no-vdi" or "no-tag". The first time, the points of the name get their vids. */
  lookup(selector: VdiSelector): Promise<VdiInfo>;
  /** The four meanings: create, clone, snapshot, rebase. Says what the new working VDI is. */
  newVdi(request: NewVdi): Promise<VdiInfo>;
  /**
   * MAKE_FS: every disk is deleted, as `deleteVdi` deletes, and every snapshot; their vids are not used
   * again. What the settings say is so from now on. False, and nothing done, if there are disks and
   * `onlyIfEmpty`.
   */
  format(settings: FormatSettings): Promise<boolean>;
  /** Says which vid is gone. */
  deleteVdi(selector: VdiSelector): Promise<number>;
  /** A bit for each vid there ever was: bit n is byte n >> 3, mask 1 << (n & 7). 2 MiB. */
  vidsInUse(): Promise<Uint8Array>;
  /** The same, for those of them that no name leads to any more. */
  vidsDeleted(): Promise<Uint8Array>;
  /** All vids, by number; when they are more than `max`, without those that no name leads to any more. */
  states(options?: { max?: number }): Promise<VdiState[]>;

  /**
   * Fills all of `target` from `offset` within the object. Inodes, and the vmstate of a disk that has
   * any, read as zeros where nothing is. Fails with "no-object"; with "stale" when the vid's disk was
   * rolled back or deleted.
   */
  read(id: ObjectId, offset: number, target: Uint8Array): Completion<void>;
  create(id: ObjectId, request: CreateObject): Completion<void>;
  /** "read-only": the vid is a snapshot's by now; looking the name up leads to the working VDI. */
  write(id: ObjectId, offset: number, chunks: readonly Uint8Array[]): Completion<void>;
  /** REMOVE_OBJ: "no-object" if it is not there. */
  remove(id: ObjectId): Completion<void>;
  /** DISCARD_OBJ: like `remove`, but what is not there is all right. */
  discard(id: ObjectId): Completion<void>;
  /** Everything acknowledged for the disk survives power loss when it completes. */
  flush(vid: number): Completion<void>;
  /** Whether reading it would not say "no-object". */
  exists(id: ObjectId): Promise<boolean>;
  /** Bytes of an object, written or not: what a read of all of it asks for. */
  sizeOf(id: ObjectId): number;

  attribute(request: AttributeRequest): Promise<{ attrId: number; nameHash: number }>;

  /** Whether `lock` does more than `lookup`. */
  readonly locking: boolean;
  /** Like `lookup`; with locking on, fails with "locked" when somebody has the vid, whoever asks. */
  lock(selector: VdiSelector, options: { client: ObjectClient; shared: boolean }): Promise<VdiInfo>;
  /**
   * Of a shared lock, the client's part. A client that does not know of its disk's newest snapshots names one
   * of them. Nobody's lock is nothing: it never fails.
   */
  release(client: ObjectClient, vid: number): void;
  /** A connection is there; to be told before its first request. */
  connected(client: ObjectClient): void;
  /** A connection is gone, and with the last one that may hold a lock, the lock. */
  disconnected(client: ObjectClient): void;
  /** The connection does data I/O on the vid: to be told at its first such request for each vid. */
  used(client: ObjectClient, vid: number): void;
}

export type ObjectKind = "data" | "vmstate" | "inode" | "attribute" | "btree" | "ledger";

/** `wire-oid.ts` makes and reads the 64-bit form. Of an attribute, `vid` is the hash of the name. */
export interface ObjectId {
  kind: ObjectKind;
  vid: number;
  index: number;
}

export type Refusal =
  | "no-vdi"
  | "no-tag"
  | "no-base-vdi"
  | "vdi-exists"
  | "no-object"
  | "read-only"
  | "no-space"
  | "full-vdi"
  | "invalid"
  | "stale"
  | "locked"
  | "io"
  | "unsupported";

/** Every failure of `Objects` is one. "stale" and "io" are I/O errors to a client. */
export class ObjectError extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = "ObjectError";
    this.refusal = refusal;
  }
}

/** Tag "" and snap id 0: the working VDI. With both, what has either. */
export interface VdiSelector {
  name: string;
  tag: string;
  snapId: number;
}

/** Kept as asked for and reported; what protects the data is the store. */
export interface VdiSettings {
  copies: number;
  copyPolicy: number;
  /** Objects have `1 << blockSizeShift` bytes: 20 to 31. */
  blockSizeShift: number;
}

export interface FormatSettings extends VdiSettings {
  locking: boolean;
  onlyIfEmpty: boolean;
}

export interface VdiInfo extends VdiSettings {
  vid: number;
}

/** `copies` 0 means copies and policy of the store, `blockSizeShift` 0 that of the store. */
export interface NewVdi extends VdiSettings {
  name: string;
  sizeBytes: number;
  /** 0: none. */
  baseVid: number;
  /** snapid != 0 on the wire. */
  snapshot: boolean;
  /** 1: a hyper volume. */
  storePolicy: number;
}

export interface CreateObject {
  offset: number;
  chunks: readonly Uint8Array[];
  /** The object it begins as a copy of. */
  cow?: ObjectId;
}

export interface VdiState extends VdiInfo {
  snapshot: boolean;
  deleted: boolean;
  parentVid: number;
  lock: "unlocked" | "locked" | "shared";
  /** Who holds it: one, or several of a shared one. */
  owners: readonly { host: string; port: number }[];
}

/**
 * An attribute of a disk, which outlives its snapshots. "get" and "delete" fail with "no-object", "exclusive"
 * with "vdi-exists", all of them with "no-vdi" or "no-tag".
 */
export interface AttributeRequest {
  selector: VdiSelector;
  key: string;
  value?: Uint8Array;
  mode: "get" | "set" | "exclusive" | "delete";
}

/** One connection. Compared by identity. */
export interface ObjectClient {
  /** For people: "127.0.0.1:40312", or "unix socket". */
  readonly peer: string;
  /** Whose connections belong together: an address; "" for a Unix socket. */
  readonly host: string;
  /** 0 for a Unix socket. */
  readonly port: number;
}
