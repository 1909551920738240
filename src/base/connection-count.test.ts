import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionCount } from "./connection-count.ts";

test("connections are counted in all and by address, and leave room when they go", () => {
  const count = new ConnectionCount({ max: 4, perAddressMax: 2 });
  assert.equal(count.enter("10.0.0.1:1"), undefined);
  assert.equal(count.enter("10.0.0.1:2"), undefined);
  assert.match(count.enter("10.0.0.1:3") ?? "", /2 connections from 10\.0\.0\.1/);
  assert.equal(count.enter("[::1]:3"), undefined);
  assert.equal(count.enter("unix"), undefined);
  assert.match(count.enter("[::2]:3") ?? "", /4 connections, the limit/);
  count.leave("10.0.0.1:2");
  assert.equal(count.enter("10.0.0.1:9"), undefined);
  assert.equal(count.all, 4);
});

test("Unix sockets have no address that could have too many", () => {
  const count = new ConnectionCount({ max: 9, perAddressMax: 1 });
  for (let n = 0; n < 9; n++) assert.equal(count.enter("unix"), undefined);
  for (let n = 0; n < 9; n++) count.leave("unix");
  assert.equal(count.all, 0);
});
