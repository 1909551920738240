import type { ZeroOptions } from "../block/block-device.ts";
import { errno } from "./errno.ts";
import { payloadBytesMax } from "./limits.ts";
import { command, commandFlag, type HeaderStyle, type RequestHeader } from "./wire-transmission.ts";

/**
 * Flags that may come with each command, by its number. FUA "is valid for all commands". A write in
 * an extended header must say PAYLOAD_LEN; as QEMU does, we follow one that forgets it.
 */
const flagsAllowed: readonly number[] = (() => {
  const { fua, noHole, dontFragment, requestOne, fastZero } = commandFlag;
  const table: number[] = [];
  table[command.read] = fua | dontFragment;
  table[command.write] = fua;
  table[command.disconnect] = 0;
  table[command.flush] = fua;
  table[command.trim] = fua;
  table[command.cache] = fua;
  table[command.writeZeroes] = fua | noHole | fastZero;
  table[command.blockStatus] = fua | requestOne;
  return table;
})();

/**
 * The error number for a request that is wrong whatever the device, 0 for a good one. The stream
 * can be followed after either.
 */
export function refusalOf(request: RequestHeader, style: HeaderStyle, contexts: number): number {
  const { flags, length } = request;
  let allowed = flagsAllowed[request.command];
  if (allowed === undefined) return errno.EINVAL;
  if (request.command === command.read) {
    if (style === "simple") allowed &= ~commandFlag.dontFragment;
    if ((flags & ~allowed) !== 0) return errno.EINVAL;
    if (length <= payloadBytesMax) return 0;
    // EOVERFLOW is for those who asked for one piece, and so know it.
    return (flags & commandFlag.dontFragment) !== 0 ? errno.EOVERFLOW : errno.EINVAL;
  }
  if (request.command === command.write) {
    if (style === "extended") allowed |= commandFlag.payloadLength;
    if (length > payloadBytesMax) return errno.EINVAL;
  }
  if ((flags & ~allowed) !== 0) return errno.EINVAL;
  if (request.command === command.blockStatus && contexts === 0) return errno.EINVAL;
  return 0;
}

export function zeroOptionsOf(flags: number): ZeroOptions {
  return {
    fua: (flags & commandFlag.fua) !== 0,
    keepAllocated: (flags & commandFlag.noHole) !== 0,
    fast: (flags & commandFlag.fastZero) !== 0,
  };
}
