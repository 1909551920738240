import assert from "node:assert/strict";
import { test } from "node:test";
import { AccessRules } from "./access-rules.ts";
import type { ExportClient } from "./exports.ts";

const from = (peer: string, certificate?: string): ExportClient => {
  return { protocol: "nbd", peer, certificate };
};

test("the first line that fits counts, and what none fits is refused", () => {
  const rules = AccessRules.parse(`
# who may do what
web-*   none   cert=web-old
web-*   write  cert=web-* from=10.0.0.0/8   # both
web-*   read   cert=backup
*.log   read
*       write  from=unix
`);
  const cases: [ExportClient, string, string][] = [
    [from("10.1.2.3:5", "web-1"), "web-a", "write"],
    [from("10.1.2.3:5", "web-old"), "web-a", "none"],
    [from("11.1.2.3:5", "web-1"), "web-a", "none"],
    [from("[::ffff:10.9.9.9]:5", "web-1"), "web-a", "write"],
    [from("[::1]:5", "backup"), "web-a", "read"],
    [from("[::1]:5", "backup"), "db", "none"],
    [from("[::1]:5", "Backup"), "web-a", "none"],
    [from("[::1]:5"), "web-a", "none"],
    [from("[::1]:5"), "a.log", "read"],
    [from("[::1]:5"), "axlog", "none"],
    [from("[::1]:5"), "a.log.gz", "none"],
    [from("unix"), "anything at\nall", "write"],
    [from("unixoid:5"), "db", "none"],
  ];
  for (const [client, disk, right] of cases) {
    assert.equal(rules.rightOf(client, disk), right, `${JSON.stringify(client)} ${disk}`);
  }
  assert.ok(rules.namesCertificates);
});

test("no rules let nobody in, and nothing in them is taken for a regular expression", () => {
  assert.equal(AccessRules.parse("# none\n\n").rightOf(from("unix"), "a"), "none");
  const rules = AccessRules.parse("a.b|c read from=::1/128\n(x write from=fe80::/10");
  assert.equal(rules.rightOf(from("[::1]:1"), "a.b|c"), "read");
  assert.equal(rules.rightOf(from("[::1]:1"), "c"), "none");
  assert.equal(rules.rightOf(from("[fe80::9%eth0]:1"), "(x"), "write");
  assert.ok(!rules.namesCertificates);
});

test("what is no rule is refused with its line", () => {
  for (const [text, problem] of [
    ["a", /line 1: "" is no right/],
    ["\na rw", /line 2: "rw" is no right/],
    ["a read by=me", /neither cert= nor from=/],
    ["a read cert=", /neither cert= nor from=/],
    ["a read cert=x cert=y", /stands twice/],
    ["a read from=10.0.0.0/33", /32 bits/],
    ["a read from=host", /unix, an IP address or a network/],
    ["a read from=1.2.3.4/", /unix, an IP address or a network/],
  ] as const) {
    assert.throws(() => AccessRules.parse(text), { code: "invalid", message: problem }, text);
  }
});
