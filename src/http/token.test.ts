import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { createNodeHost } from "../host/node/node-host.ts";
import { loadToken } from "./token.ts";

const host = createNodeHost({ logLevel: "silent" });

function file(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-token-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "token");
}

test("the first start makes a token that only its owner can read, and later ones use it", async (t) => {
  const path = file(t);
  const token = await loadToken(path, host);
  assert.match(token, /^[\w-]{43}$/);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(readFileSync(path, "utf8"), `${token}\n`);
  assert.equal(await loadToken(path, host), token);
  rmSync(path);
  assert.notEqual(await loadToken(path, host), token);
});

test("what is no token is an error that says what to do, and is never used", async (t) => {
  const path = file(t);
  for (const text of ["", "\n", "short", "x".repeat(300), "a b".repeat(20)]) {
    writeFileSync(path, text);
    await assert.rejects(loadToken(path, host), /not a token/);
  }
  chmodSync(path, 0o600);
});
