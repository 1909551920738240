import assert from "node:assert/strict";
import { test } from "node:test";
import { isKelpieError } from "../base/errors.ts";
import { formatAddress, isLocal, parseAddress } from "./addresses.ts";
import { nbdListeners, parseKeepDiscarded, sheepdogListeners } from "./serve-options.ts";

const settings = { store: "/s", insecure: false, guarded: false };

test("an ADDR is host:port, unix:PATH or off", () => {
  const examples: [string, ReturnType<typeof parseAddress>][] = [
    ["127.0.0.1:10809", { kind: "tcp", host: "127.0.0.1", port: 10809 }],
    ["localhost:0", { kind: "tcp", host: "localhost", port: 0 }],
    ["[::1]:7", { kind: "tcp", host: "::1", port: 7 }],
    ["unix:/run/a b:c.sock", { kind: "unix", path: "/run/a b:c.sock" }],
    ["off", "off"],
  ];
  for (const [text, address] of examples) {
    assert.deepEqual(parseAddress(text), address);
    if (address !== "off") assert.equal(formatAddress(address), text);
  }
});

test("what is no ADDR is refused", () => {
  const wrong = ["", "10809", ":10809", "host", "host:", "host:70000", "::1:7", "unix:", "a b:1"];
  for (const text of [...wrong, "host:-1", "nbd://h:1", "/run/x.sock", "[::1]"]) {
    assert.throws(
      () => parseAddress(text),
      (error) => isKelpieError(error, "invalid"),
      text,
    );
  }
});

test("only loopback addresses and sockets are local", () => {
  const local = ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/x"];
  const reachable = ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.org:1", "127.0.0.1.x.org:1"];
  for (const text of [...local, ...reachable]) {
    const address = parseAddress(text);
    assert.ok(address !== "off");
    assert.equal(isLocal(address), local.includes(text), text);
  }
});

test("the defaults may be left out; what a flag names must work", () => {
  const defaults = nbdListeners(undefined, settings);
  assert.deepEqual(defaults, [
    { address: { kind: "tcp", host: "127.0.0.1", port: 10809 }, required: false },
    { address: { kind: "unix", path: "/s/nbd.sock" }, required: false },
  ]);
  assert.deepEqual(nbdListeners(["127.0.0.1:1"], settings), [
    { address: { kind: "tcp", host: "127.0.0.1", port: 1 }, required: true },
  ]);
  assert.deepEqual(nbdListeners(["off"], settings), []);
});

test("addresses that others can reach take --insecure, and off stands alone", () => {
  const refused = (flags: string[]) =>
    assert.throws(
      () => nbdListeners(flags, settings),
      (e) => isKelpieError(e, "invalid"),
    );
  refused(["0.0.0.0:10809"]);
  refused(["127.0.0.1:1", "10.0.0.1:1"]);
  refused(["off", "127.0.0.1:1"]);
  assert.equal(nbdListeners(["0.0.0.0:1"], { ...settings, insecure: true }).length, 1);
  assert.equal(nbdListeners(["0.0.0.0:1"], { ...settings, guarded: true }).length, 1);
});

test("Sheepdog's addresses follow the same rules, with its own defaults", () => {
  assert.deepEqual(sheepdogListeners(undefined, settings), [
    { address: { kind: "tcp", host: "127.0.0.1", port: 7000 }, required: false },
    { address: { kind: "unix", path: "/s/sock" }, required: false },
  ]);
  assert.deepEqual(sheepdogListeners(["off"], settings), []);
  assert.throws(
    () => sheepdogListeners(["0.0.0.0:7000"], settings),
    (error) =>
      isKelpieError(error, "invalid") && error.message.startsWith("--sheepdog 0.0.0.0:7000"),
  );
});

test("a socket is known by its whole path, wherever the server was started", () => {
  const [listener] = nbdListeners(["unix:x.sock"], settings);
  assert.deepEqual(listener?.address, { kind: "unix", path: `${process.cwd()}/x.sock` });
});

test("what is kept of discarded disks is a time, a share or both", () => {
  assert.deepEqual(parseKeepDiscarded("1h,10%"), { ms: 3_600_000, fraction: 0.1 });
  assert.deepEqual(parseKeepDiscarded("2.5%, 30m"), { ms: 1_800_000, fraction: 0.025 });
  assert.deepEqual(parseKeepDiscarded("0"), { ms: 0 });
  assert.deepEqual(parseKeepDiscarded("0%"), { fraction: 0 });
  for (const text of ["", "1h,2h", "5%,5%", "101%", "-1%", "1h,", "10", "x%"]) {
    assert.throws(
      () => parseKeepDiscarded(text),
      (e) => isKelpieError(e, "invalid"),
      text,
    );
  }
});
