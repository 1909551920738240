import { KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "./block-device.ts";

/** The same disk without the right to change it. */
export function readOnlyDevice(device: BlockDevice): BlockDevice {
  return {
    get sizeBytes() {
      return device.sizeBytes;
    },
    readOnly: true,
    read: (target, offset) => device.read(target, offset),
    write: refuse,
    zero: refuse,
    trim: refuse,
    flush: () => device.flush(),
    cache: (offset, length) => device.cache(offset, length),
    extents: (query) => device.extents(query),
    changeBases: () => device.changeBases(),
  };
}

function refuse(): never {
  throw new KelpieError("read-only", "the disk is read-only");
}
