import assert from "node:assert/strict";
import { test } from "node:test";
import { KelpieError } from "../base/errors.ts";
import { errno, errnoOf, errorOfErrno } from "./errno.ts";

test("codes that NBD can tell apart survive the way to the client and back", () => {
  for (const code of ["invalid", "read-only", "no-space", "io", "unsupported", "closed"] as const) {
    assert.equal(errorOfErrno(errnoOf(new KelpieError(code, "")), "").code, code);
  }
});

test("what is not a KelpieError, and numbers nobody knows, are I/O errors", () => {
  assert.equal(errnoOf(new TypeError("oops")), errno.EIO);
  assert.equal(errorOfErrno(4711, "").code, "io");
  assert.equal(errorOfErrno(errno.ENOMEM, "").code, "io");
});
