import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatNbdUri, type NbdUri, parseNbdUri } from "./uri.ts";

const examples: [string, NbdUri][] = [
  ["nbd://localhost", { address: { kind: "tcp", host: "localhost", port: 10809 }, exportName: "" }],
  ["nbd://h:1/", { address: { kind: "tcp", host: "h", port: 1 }, exportName: "" }],
  ["nbd://[::1]:99/a/b", { address: { kind: "tcp", host: "::1", port: 99 }, exportName: "a/b" }],
  [
    "nbd://1.2.3.4/d%20e",
    { address: { kind: "tcp", host: "1.2.3.4", port: 10809 }, exportName: "d e" },
  ],
  ["nbd+unix:///?socket=/tmp/s", { address: { kind: "unix", path: "/tmp/s" }, exportName: "" }],
  [
    "nbd+unix:///vm@t?a=b&socket=s%3F",
    { address: { kind: "unix", path: "s?" }, exportName: "vm@t" },
  ],
  [
    "nbds://h/d?tls-certificates=/etc/pki%26x&tls-hostname=store",
    {
      address: { kind: "tcp", host: "h", port: 10809 },
      exportName: "d",
      tls: { certificates: "/etc/pki&x", hostName: "store" },
    },
  ],
  ["nbds+unix:///d?socket=/s", { address: { kind: "unix", path: "/s" }, exportName: "d", tls: {} }],
];

for (const [text, parsed] of examples) {
  test(`${text} is parsed`, () => assert.deepEqual(parseNbdUri(text), parsed));
}

test("what is formatted parses to the same", () => {
  const name = fc.string({ unit: "grapheme" }).map((s) => s.toWellFormed());
  const path = name.filter((s) => s !== "");
  const address = fc.oneof(
    fc.record({ kind: fc.constant("unix" as const), path }),
    fc.record({
      kind: fc.constant("tcp" as const),
      host: fc.constantFrom("localhost", "10.0.0.1", "::1", "fe80::1"),
      port: fc.integer({ min: 1, max: 65_535 }),
    }),
  );
  const tls = fc.record({ certificates: name, hostName: name }, { requiredKeys: [] });
  fc.assert(
    fc.property(address, name, fc.option(tls), (where, exportName, secure) => {
      const uri = { address: where, exportName, ...(secure === null ? {} : { tls: secure }) };
      assert.deepEqual(parseNbdUri(formatNbdUri(uri)), structuredClone(uri));
    }),
  );
});

test("a snapshot's URI stays readable", () => {
  const address = { kind: "unix", path: "/run/k.sock" } as const;
  const uri = formatNbdUri({ address, exportName: "vm@before" });
  assert.equal(uri, "nbd+unix:///vm@before?socket=/run/k.sock");
});

test("what is no NBD URI is refused with a hint", () => {
  for (const text of [
    "",
    "disk.raw",
    "http://h/x",
    "nbd:unix:/tmp/s",
    "nbd://",
    "nbd://h:0/x",
    "nbd://h:70000/x",
    "nbd://user@h/x",
    "nbd://h/%zz",
    "nbd://h%2Fx/y",
    "nbd://a%3Ab/x",
    "nbd+unix:///x",
    "nbd+unix://host/x?socket=/s",
    "nbd://h/x#y",
    "nbdss://h/x",
    "nbds+unix:///x?tls-certificates=/d",
  ]) {
    assert.throws(() => parseNbdUri(text), { code: "invalid" }, text);
  }
});
