import assert from "node:assert/strict";
import { test } from "node:test";
import type { RawReply, RawSheepdog } from "../support/raw-sheepdog.ts";
import { serveStore } from "./served-store.ts";
import { formatTranscript, keptTranscripts, parseTranscript } from "./transcript.ts";

/** Replies in the order of a transcript, which need not be the order in which they come. */
class Replies {
  readonly #client: RawSheepdog;
  readonly #early: RawReply[] = [];

  constructor(client: RawSheepdog) {
    this.#client = client;
  }

  /** The one with the id of `expected`. */
  async next(expected: Buffer): Promise<RawReply> {
    const id = expected.readUInt32LE(8);
    let reply = this.#early.find((early) => early.id === id);
    if (reply !== undefined) this.#early.splice(this.#early.indexOf(reply), 1);
    while (reply === undefined) {
      const came = await this.#client.reply();
      if (came.id === id) reply = came;
      else this.#early.push(came);
    }
    return reply;
  }
}

/** Bytes that can be megabytes, most of them zeros, in a message. */
function mustEqual(came: Uint8Array, expected: Uint8Array, where: string): void {
  assert.equal(came.length, expected.length, where);
  const at = came.findIndex((byte, index) => byte !== expected[index]);
  const around = (bytes: Uint8Array) => Buffer.from(bytes.subarray(at, at + 16)).toString("hex");
  if (at >= 0) assert.equal(around(came), around(expected), `${where}: from byte ${at} on`);
}

for (const { name, events } of keptTranscripts()) {
  test(`${name}: what QEMU said is answered as it was`, async () => {
    await using store = await serveStore();
    const connections = new Map<number, { client: RawSheepdog; replies: Replies }>();
    const of = (connection: number) => connections.get(connection) ?? assert.fail("not open");
    let command = "";
    for (const [index, event] of events.entries()) {
      const where = `line ${index + 1}, ${command}`;
      if (event.kind === "command") {
        command = event.line;
      } else if (event.kind === "open") {
        const client = await store.connect();
        connections.set(event.connection, { client, replies: new Replies(client) });
      } else if (event.kind === "close") {
        of(event.connection).client.connection.end();
      } else if (event.kind === "request") {
        of(event.connection).client.send(event.header, event.payload);
      } else {
        const { header, payload } = await of(event.connection).replies.next(event.header);
        assert.equal(Buffer.from(header).toString("hex"), event.header.toString("hex"), where);
        mustEqual(payload, event.payload, where);
      }
    }
  });
}

test("a transcript is read as it was written", () => {
  const header = Buffer.concat([Buffer.from([1, 2, 3]), Buffer.alloc(45)]);
  const payload = Buffer.from("0007070707070707070705", "hex");
  const transcript = formatTranscript([
    { kind: "command", line: "qemu-img info sheepdog:test" },
    { kind: "open", connection: 1 },
    { kind: "request", connection: 1, header, payload },
    { kind: "request", connection: 1, header, payload: Buffer.alloc(0) },
    { kind: "response", connection: 1, header, payload },
    { kind: "close", connection: 1 },
  ]);
  assert.match(transcript, /^1 > 010203,00\*45 00,07\*9,05$/m);
  assert.equal(formatTranscript(parseTranscript(transcript)), transcript);
});
