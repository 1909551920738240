import { type ErrorCode, isKelpieError, KelpieError } from "../base/errors.ts";

/** The error numbers that NBD allows in replies (doc/proto.md, "Error values"). */
export const errno = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

const numberOfCode: Record<ErrorCode, number> = {
  invalid: errno.EINVAL,
  "not-found": errno.EINVAL,
  exists: errno.EINVAL,
  busy: errno.EIO,
  denied: errno.EPERM,
  "read-only": errno.EPERM,
  "no-space": errno.ENOSPC,
  io: errno.EIO,
  corrupt: errno.EIO,
  unsupported: errno.ENOTSUP,
  closed: errno.ESHUTDOWN,
};

/** What a server answers. Anything but a KelpieError is a mistake of ours: EIO, and logged. */
export function errnoOf(error: unknown): number {
  return isKelpieError(error) ? numberOfCode[error.code] : errno.EIO;
}

/** What a client throws for an error number. Unknown numbers are "io". */
export function errorOfErrno(number: number, message: string): KelpieError {
  return new KelpieError(codeOfErrno(number), message);
}

function codeOfErrno(number: number): ErrorCode {
  switch (number) {
    case errno.EPERM:
      return "read-only";
    case errno.EINVAL:
    case errno.EOVERFLOW:
      return "invalid";
    case errno.ENOSPC:
      return "no-space";
    case errno.ENOTSUP:
      return "unsupported";
    case errno.ESHUTDOWN:
      return "closed";
    default:
      return "io";
  }
}
