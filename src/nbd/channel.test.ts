import assert from "node:assert/strict";
import { test } from "node:test";
import type { Connection, ConnectionHandlers } from "../host/net.ts";
import { Channel } from "./channel.ts";

test("what a paused connection holds back is dropped when TLS begins, like all in the clear", async () => {
  let handlers: ConnectionHandlers | undefined;
  const held = [Buffer.from("an option that somebody in between has sent")];
  const connection: Connection = {
    peer: "fake",
    queuedBytes: 0,
    start: (given) => {
      handlers = given;
    },
    write: () => true,
    release: () => {},
    cork: () => {},
    uncork: () => {},
    pause: () => {},
    resume: () => {
      for (const chunk of held.splice(0)) handlers?.data(chunk);
    },
    end: () => {},
    destroy: () => {},
    startTls: async () => {
      held.splice(0); // as the contract of Connection has it
      return { version: "TLSv1.3", name: undefined };
    },
  };
  const channel = new Channel(connection);
  handlers?.data(Buffer.alloc(100_000)); // more than it takes before it pauses
  const context = { kind: "tls-context" } as const;
  await channel.startTls({ role: "server", context, verifyPeer: false }, Buffer.from("come in"));
  assert.equal(channel.queue.byteLength, 0);
  handlers?.data(Buffer.from("said in TLS"));
  assert.equal(Buffer.from(await channel.take(11)).toString(), "said in TLS");
});
