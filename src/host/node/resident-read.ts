import { createRequire } from "node:module";

/**
 * Reads what the page cache holds, without ever waiting for a disk: `preadv2` with `RWF_NOWAIT`
 * (preadv2(2), Linux 4.14). Node has no such call, so it is made through koffi, a foreign-function
 * package with prebuilt binaries. Where that or the call is missing there is nothing here, and reads
 * go through Node's thread pool as they would anyway; see docs/decisions/0013.
 */
export type ResidentRead = (
  fd: number,
  target: Uint8Array,
  place: { position: number; mayWait: boolean },
) => "filled" | "would wait" | "unsupported";

/**
 * A longer read is a copy long enough to be worth a hop to a thread of the pool, where it does not
 * hold up other requests.
 */
export const residentReadBytesMax = 256 * 1024;

let loaded: ResidentRead | undefined;
let looked = false;

/** Loaded on first use: most commands read nothing through it. */
export function residentRead(): ResidentRead | undefined {
  if (!looked) {
    looked = true;
    loaded = load();
  }
  return loaded;
}

type Preadv2 = (fd: number, vector: number, count: number, at: number, flags: number) => number;

interface Koffi {
  load(path: string | null): { func(declaration: string): unknown };
  /** A 64-bit number; addresses of Linux processes have 47 bits. */
  address(memory: ArrayBufferView): unknown;
  errno(): number;
}

/** uapi/linux/fs.h */
const rwfNoWait = 8;
/** asm-generic/errno.h */
const operationNotSupported = 95;

function load(): ResidentRead | undefined {
  if (process.platform !== "linux" || process.env.KELPIE_NO_NATIVE === "1") return undefined;
  let koffi: Koffi;
  let preadv2: Preadv2;
  try {
    koffi = createRequire(import.meta.url)("koffi") as Koffi;
    const declaration = "int64_t preadv2(int fd, uint64_t iov, int count, int64_t at, int flags)";
    preadv2 = koffi.load(null).func(declaration) as Preadv2;
  } catch {
    // No binary for this machine, or a C library without the call: the thread pool does it.
    return undefined;
  }
  // struct iovec: address and length. Large enough not to live in V8's heap, where it could move.
  const vector = new Uint32Array(new ArrayBuffer(4096), 0, 4);
  const vectorAddress = Number(koffi.address(vector));
  return (fd, target, { position, mayWait }) => {
    const address = Number(koffi.address(target));
    vector[0] = address % 2 ** 32;
    vector[1] = Math.floor(address / 2 ** 32);
    vector[2] = target.length;
    const count = preadv2(fd, vectorAddress, 1, position, mayWait ? 0 : rwfNoWait);
    if (count === target.length) return "filled";
    const isUnsupported = count < 0 && koffi.errno() === operationNotSupported;
    return isUnsupported ? "unsupported" : "would wait";
  };
}
