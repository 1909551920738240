import { KelpieError } from "../base/errors.ts";
import { readU32, readU64, writeU32, writeU64 } from "../base/little-endian.ts";
import { decodeText, encodeText } from "./wire-text.ts";

/*
 * Little-endian; what is marked with - is zero when written and not looked at when read.
 *
 * State of recovery       Throttling            Disk                     Disks
 *  0  1  it is under way   0  4  at a time       0    4  index            0       4120  64 of them
 *  1  3  -                 4  4  -               4    4  -                263680     4  how many
 *  4  4  0 lists objects   8  8  interval, ms    8    8  free bytes       263684     4  -
 *        1 copies         16  1  it is on       16    8  used bytes
 *        2 says so        17  7  -              24 4096  path
 *  8  8  finished
 * 16  8  of so many
 *
 * Statistics: 15 numbers of 8 bytes, in the order of `statFields`.
 */
export const recoveryStateBytes = 24;
export const throttlingBytes = 24;
export const statBytes = 120;
const diskBytes = 4120;
const diskPathBytes = 4096;
const disksMax = 64;
const disksCountAt = disksMax * diskBytes;
export const mdInfoBytes = disksCountAt + 8;

export interface RecoveryState {
  underWay: boolean;
  /** 0 lists objects, 1 copies them, 2 tells others. */
  phase: number;
  finished: number;
  total: number;
}

export function encodeRecoveryState(state: RecoveryState): Uint8Array {
  const bytes = new Uint8Array(recoveryStateBytes);
  bytes[0] = state.underWay ? 1 : 0;
  writeU32(bytes, 4, state.phase);
  writeU64(bytes, 8, state.finished);
  writeU64(bytes, 16, state.total);
  return bytes;
}

export function decodeRecoveryState(bytes: Uint8Array): RecoveryState {
  expectSize(bytes, recoveryStateBytes);
  return {
    underWay: bytes[0] !== 0,
    phase: readU32(bytes, 4),
    finished: readU64(bytes, 8),
    total: readU64(bytes, 16),
  };
}

export interface Throttling {
  atATime: number;
  intervalMs: number;
  on: boolean;
}

export function encodeThrottling(throttling: Throttling): Uint8Array {
  const bytes = new Uint8Array(throttlingBytes);
  writeU32(bytes, 0, throttling.atATime);
  writeU64(bytes, 8, throttling.intervalMs);
  bytes[16] = throttling.on ? 1 : 0;
  return bytes;
}

export function decodeThrottling(bytes: Uint8Array): Throttling {
  expectSize(bytes, throttlingBytes);
  return { atATime: readU32(bytes, 0), intervalMs: readU64(bytes, 8), on: bytes[16] !== 0 };
}

/** Requests of clients are the gateway's, those of other nodes the peer's. */
const statFields = [
  "gatewayActive",
  "peerActive",
  "gatewayTotal",
  "peerTotal",
  "gatewayReceivedBytes",
  "gatewaySentBytes",
  "peerReceivedBytes",
  "peerSentBytes",
  "gatewayRemoves",
  "gatewayReads",
  "gatewayWrites",
  "gatewayFlushes",
  "peerRemoves",
  "peerReads",
  "peerWrites",
] as const;

export type NodeStat = Record<(typeof statFields)[number], number>;

export function encodeStat(stat: Partial<NodeStat>): Uint8Array {
  const bytes = new Uint8Array(statBytes);
  for (const [index, name] of statFields.entries()) writeU64(bytes, 8 * index, stat[name] ?? 0);
  return bytes;
}

export function decodeStat(bytes: Uint8Array): NodeStat {
  expectSize(bytes, statBytes);
  const numbers = statFields.map((name, index) => [name, readU64(bytes, 8 * index)] as const);
  return Object.fromEntries(numbers) as NodeStat;
}

export interface NodeDisk {
  index: number;
  freeBytes: number;
  usedBytes: number;
  path: string;
}

/** At most 64. Throws "invalid" for a path that does not fit. */
export function encodeMdInfo(disks: readonly NodeDisk[]): Uint8Array {
  const bytes = new Uint8Array(mdInfoBytes);
  for (const [place, disk] of disks.entries()) {
    const at = place * diskBytes;
    writeU32(bytes, at, disk.index);
    writeU64(bytes, at + 8, disk.freeBytes);
    writeU64(bytes, at + 16, disk.usedBytes);
    encodeText(bytes, at + 24, disk.path, diskPathBytes);
  }
  writeU32(bytes, disksCountAt, disks.length);
  return bytes;
}

export function decodeMdInfo(bytes: Uint8Array): NodeDisk[] {
  expectSize(bytes, mdInfoBytes);
  const count = readU32(bytes, disksCountAt);
  if (count > disksMax) throw new KelpieError("invalid", `a node with ${count} disks`);
  return Array.from({ length: count }, (_, place) => {
    const at = place * diskBytes;
    return {
      index: readU32(bytes, at),
      freeBytes: readU64(bytes, at + 8),
      usedBytes: readU64(bytes, at + 16),
      path: decodeText(bytes, at + 24, diskPathBytes),
    };
  });
}

function expectSize(bytes: Uint8Array, size: number): void {
  if (bytes.length !== size) {
    throw new KelpieError("invalid", `an answer of ${bytes.length} bytes where ${size} are due`);
  }
}
