/** Opcodes. Below 0x80 are QEMU's and `dog`'s, from 0x80 on `dog`'s and those of nodes among themselves. */
export const opcode = {
  createAndWriteObject: 0x01,
  readObject: 0x02,
  writeObject: 0x03,
  removeObject: 0x04,
  discardObject: 0x05,
  newVdi: 0x11,
  lockVdi: 0x12,
  releaseVdi: 0x13,
  getVdiInfo: 0x14,
  readVdis: 0x15,
  flushVdi: 0x16,
  deleteVdi: 0x17,
  getClusterDefault: 0x18,

  getNodeList: 0x82,
  makeFs: 0x84,
  shutdown: 0x85,
  statSheep: 0x86,
  statCluster: 0x87,
  getVdiAttribute: 0x89,
  forceRecover: 0x8a,
  getStoreList: 0x90,
  cleanup: 0x94,
  traceEnable: 0x95,
  traceDisable: 0x96,
  statRecovery: 0x97,
  noOperation: 0x98,
  notifyVdiDelete: 0x99,
  killNode: 0x9a,
  traceStatus: 0x9b,
  traceReadBuffer: 0x9c,
  getObjectList: 0xa1,
  getEpoch: 0xa2,
  createAndWritePeer: 0xa3,
  readPeer: 0xa4,
  writePeer: 0xa5,
  removePeer: 0xa6,
  enableRecover: 0xa8,
  disableRecover: 0xa9,
  getVdiCopies: 0xab,
  completeRecovery: 0xac,
  notifyVdiAdd: 0xaf,
  mdInfo: 0xb1,
  mdPlug: 0xb2,
  mdUnplug: 0xb3,
  getHash: 0xb4,
  reweight: 0xb5,
  stat: 0xb8,
  getLogLevel: 0xb9,
  setLogLevel: 0xba,
  nfsCreate: 0xbb,
  nfsDelete: 0xbc,
  exist: 0xbd,
  clusterInfo: 0xbe,
  alterClusterCopy: 0xbf,
  alterVdiCopy: 0xc0,
  decref: 0xc1,
  decrefPeer: 0xc2,
  repairReplica: 0xc5,
  oidsExist: 0xc6,
  vdiStateCheckpoint: 0xc7,
  inodeCoherence: 0xc8,
  readDeletedVdis: 0xc9,
  getRecovery: 0xca,
  setRecovery: 0xcb,
  setVnodes: 0xcc,
  getVnodes: 0xcd,
} as const;

/** From this opcode on a request carries the other protocol version. */
export const internalOpcodesFrom = 0x80;
/** Of opcodes below. QEMU sends 0 and 1, `dog` 2; 0 is not checked. */
export const protocolVersion = 0x02;
/** Of opcodes from there on, exactly. */
export const internalProtocolVersion = 0x0a;

/** Bits of a request's flags. Those of attributes stand where others have other meanings. */
export const requestFlag = {
  /** A payload follows the request. */
  write: 0x01,
  copyOnWrite: 0x02,
  /** Wishes about a cache that servers do not have any more. */
  cache: 0x04,
  direct: 0x08,
  /** With write: a payload comes back as well. */
  piggyback: 0x10,
  attributeCreate: 0x100,
  attributeExclusive: 0x200,
  attributeDelete: 0x400,
} as const;

/** Bits of a cluster's flags. */
export const clusterFlag = {
  strict: 0x01,
  diskMode: 0x02,
  autoVnodes: 0x04,
  useLock: 0x08,
  recycleVid: 0x10,
  avoidDiskFull: 0x20,
} as const;

/** Legal sizes of objects are `2 ** shift` bytes. */
export const blockSizeShift = { min: 20, max: 31, default: 22 } as const;
/** Data objects of a VDI that is no hyper volume. */
export const dataObjectsMax = 2 ** 20;
export const copiesMax = 31;
export const defaultCopies = 3;
/** Answers to READ_VDIS and READ_DEL_VDIS: bit n is byte n >> 3, mask 1 << (n & 7). */
export const vidBitmapBytes = 2 ** 21;

/** How many copies, or strips and parities, a copy policy makes; 0 is replication and says nothing. */
export function copiesOfPolicy(copyPolicy: number): { data: number; parity: number } {
  return { data: 2 * (copyPolicy >> 4), parity: copyPolicy & 0x0f };
}
