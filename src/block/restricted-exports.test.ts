import assert from "node:assert/strict";
import { test } from "node:test";
import { type Log, type LogFields, silentLog } from "../host/log.ts";
import { AccessRules } from "./access-rules.ts";
import type { ExportClient, Exports } from "./exports.ts";
import { MemoryDevice } from "./memory-device.ts";
import { RestrictedExports } from "./restricted-exports.ts";

/** Disks "vm", with a snapshot "vm@before", and "vm@old", whose name only looks like one. */
function exportsOf(): { exports: Exports; open: string[] } {
  const disks: Record<string, string> = { vm: "vm", "vm@before": "vm", "vm@old": "vm@old" };
  const open: string[] = [];
  const exports: Exports = {
    list: async () => ["vm", "vm@old"].map((name) => ({ name, description: "" })),
    async open(name) {
      const disk = disks[name];
      if (disk === undefined) throw new Error(`asked for ${name}`);
      open.push(name);
      const close = async () => void open.splice(open.indexOf(name), 1);
      return { name, disk, description: "", device: new MemoryDevice(4096), close };
    },
  };
  return { exports, open };
}

const client: ExportClient = { protocol: "nbd", peer: "10.0.0.9:77", certificate: "bob" };

function restricted(text: string) {
  const logged: LogFields[] = [];
  const warn: Log["warn"] = (event, fields) => logged.push({ event, ...fields });
  const { exports, open } = exportsOf();
  let rules = AccessRules.parse(text);
  const log = { ...silentLog, warn };
  const guarded = new RestrictedExports(() => rules, { exports, log });
  const replace = (other: string) => {
    rules = AccessRules.parse(other);
  };
  return { guarded, open, logged, replace };
}

test("lists show what the client may open, and nothing to who is not known", async () => {
  const { guarded } = restricted("vm read cert=bob");
  assert.deepEqual(await guarded.list(client), [{ name: "vm", description: "" }]);
  assert.deepEqual(await guarded.list(), []);
  assert.deepEqual(await guarded.list({ ...client, certificate: "eve" }), []);
});

test("a snapshot has its disk's right; a disk that is called like one has its own", async () => {
  const { guarded, open } = restricted("vm write cert=bob");
  const snapshot = await guarded.open("vm@before", client);
  await assert.rejects(guarded.open("vm@old", client), { code: "denied" });
  assert.deepEqual(open, ["vm@before"], "what was opened to look at is closed again");
  await snapshot.close();
});

test("who may read gets a disk that cannot be written, and closes the real one", async () => {
  const { guarded, open } = restricted("vm read cert=bob");
  const opened = await guarded.open("vm", client);
  assert.equal(opened.device.readOnly, true);
  assert.throws(() => opened.device.write([Buffer.alloc(512)], 0), { code: "read-only" });
  await opened.close();
  assert.deepEqual(open, []);
});

test("a refusal is the same for a disk that is not there, and the log says who it was", async () => {
  const { guarded, logged, open } = restricted("other write");
  const messages: string[] = [];
  for (const name of ["vm", "nowhere"]) {
    await assert.rejects(guarded.open(name, client), (error: Error) => {
      messages.push(error.message.replace(name, "X"));
      return true;
    });
  }
  assert.equal(messages[0], messages[1]);
  assert.deepEqual(open, []);
  assert.deepEqual(logged[0], {
    event: "export refused",
    export: "vm",
    peer: "10.0.0.9:77",
    certificate: "bob",
  });
});

test("rules that are replaced count at the next opening", async () => {
  const { guarded, replace } = restricted("vm write");
  await (await guarded.open("vm", client)).close();
  replace("vm none");
  await assert.rejects(guarded.open("vm", client), { code: "denied" });
});
