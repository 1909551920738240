import assert from "node:assert/strict";
import { test } from "node:test";
import { none, type RawClient, type Served, serve, settle } from "../../test/support/raw-nbd.ts";
import { KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { MemoryDevice } from "../block/memory-device.ts";
import { readOnlyDevice } from "../block/read-only.ts";
import * as wire from "./wire-handshake.ts";

const { option, optionReply, optionError } = wire;
const sizeBytes = 2 ** 20;

/** A disk that knows changes since these points. */
function withBases(bases: string[]): BlockDevice {
  const device = new MemoryDevice(sizeBytes);
  device.changeBases = async () => bases;
  return device;
}

async function withServer(
  devices: Record<string, BlockDevice>,
  body: (served: Served) => Promise<void>,
): Promise<void> {
  const served = await serve(devices);
  try {
    await body(served);
  } finally {
    await served.stop();
  }
}

/** A client that has said hello to a server of one empty disk named "disk". */
const greeted =
  (
    body: (client: RawClient, served: Served) => Promise<void>,
    devices?: Record<string, BlockDevice>,
  ) =>
  async () => {
    await withServer(devices ?? { disk: new MemoryDevice(sizeBytes) }, async (served) => {
      const client = await served.connect();
      await client.greet();
      await body(client, served);
    });
  };

const info = (name: string, wanted: number[] = []) => wire.encodeInfoRequest({ name, wanted });
const meta = (name: string, queries: string[]) => wire.encodeMetaContextRequest({ name, queries });

function infosOf(replies: { type: number; data: Uint8Array }[]): wire.Info[] {
  return replies
    .filter(({ type }) => type === optionReply.info)
    .map(({ data }) => wire.decodeInfo(data));
}

function contextsOf(replies: { type: number; data: Uint8Array }[]): wire.MetaContext[] {
  return replies
    .filter(({ type }) => type === optionReply.metaContext)
    .map(({ data }) => wire.decodeMetaContext(data));
}

test("the server greets with fixed newstyle and no zeroes", async () => {
  await withServer({ disk: new MemoryDevice(sizeBytes) }, async ({ connect }) => {
    const client = await connect();
    assert.equal(wire.decodeGreeting(await client.greet()), 3);
  });
});

test("unknown client flags end the session", async () => {
  await withServer({ disk: new MemoryDevice(sizeBytes) }, async ({ connect }) => {
    const client = await connect();
    await client.greet(4);
    await client.closed();
  });
});

test(
  "an unknown option gets UNSUP, and the handshake goes on",
  greeted(async (client) => {
    for (const number of [4, 12, 0, 0xffffffff]) {
      assert.equal(await client.outcome(number, new Uint8Array(100)), optionError.unsupported);
    }
    assert.equal(await client.outcome(option.list), optionReply.ack);
  }),
);

test(
  "STARTTLS gets UNSUP, and leaves the session in the clear",
  greeted(async (client) => {
    assert.equal(await client.outcome(option.startTls), optionError.unsupported);
    assert.equal(await client.outcome(option.go, info("disk")), optionReply.ack);
  }),
);

test(
  "an option without its magic number ends the session",
  greeted(async (client) => {
    client.channel.send(new Uint8Array(16));
    await client.closed();
  }),
);

test(
  "ABORT is acknowledged, then the server closes",
  greeted(async (client) => {
    assert.equal(await client.outcome(option.abort), optionReply.ack);
    await client.closed();
  }),
);

test(
  "LIST names every export with its description",
  greeted(
    async (client) => {
      const replies = await client.option(option.list);
      assert.deepEqual(
        replies.slice(0, -1).map(({ data }) => wire.decodeListedExport(data)),
        [
          { name: "a", description: "about a" },
          { name: "ü@1", description: "about ü@1" },
        ],
      );
      assert.equal(await client.outcome(option.list, new Uint8Array(1)), optionError.invalid);
    },
    { a: new MemoryDevice(512), "ü@1": new MemoryDevice(512) },
  ),
);

test(
  "INFO tells size, flags and block sizes, and what else was asked for",
  greeted(async (client) => {
    const { name, description, blockSize } = wire.infoType;
    const short = infosOf(await client.option(option.info, info("disk")));
    assert.deepEqual(
      short.map(({ type }) => type),
      ["export", "block-size"],
    );
    const infos = infosOf(
      await client.option(option.info, info("disk", [name, description, blockSize, 99])),
    );
    const sizes = { minimumBytes: 1, preferredBytes: 4096, payloadBytesMax: 32 * 2 ** 20 };
    assert.deepEqual(infos, [
      // has flags, flush, fua, trim, write zeroes, multi-conn, cache, fast zero
      { type: "export", sizeBytes, transmissionFlags: 0b1101_0110_1101 },
      { type: "block-size", ...sizes },
      { type: "name", name: "disk" },
      { type: "description", description: "about disk" },
    ]);
  }),
);

test(
  "DF is offered with structured replies only",
  greeted(async (client) => {
    assert.equal(await client.outcome(option.structuredReply), optionReply.ack);
    const [facts] = infosOf(await client.option(option.info, info("disk")));
    assert.ok(facts?.type === "export");
    assert.ok(facts.transmissionFlags & wire.transmissionFlag.sendDontFragment);
  }),
);

test(
  "a read-only disk says so, and offers nothing that writes",
  greeted(
    async (client) => {
      const [facts] = infosOf(await client.option(option.info, info("ro")));
      assert.ok(facts?.type === "export");
      const { readOnly, sendTrim, sendWriteZeroes, sendFastZero } = wire.transmissionFlag;
      assert.equal(facts.transmissionFlags & readOnly, readOnly);
      assert.equal(facts.transmissionFlags & (sendTrim | sendWriteZeroes | sendFastZero), 0);
    },
    { ro: readOnlyDevice(new MemoryDevice(sizeBytes)) },
  ),
);

test(
  "an export that is not there is UNKNOWN, and another can be tried",
  greeted(async (client, { exports }) => {
    for (const number of [option.info, option.go]) {
      assert.equal(await client.outcome(number, info("nope")), optionError.unknown);
    }
    assert.equal(await client.outcome(option.go, info("disk")), optionReply.ack);
    assert.equal(exports.clients("disk").length, 1);
  }),
);

test(
  "the empty name is the only export there is",
  greeted(async (client) => {
    const infos = infosOf(await client.option(option.info, info("", [wire.infoType.name])));
    assert.deepEqual(infos.at(-1), { type: "name", name: "disk" });
  }),
);

test(
  "the empty name is UNKNOWN when there are two",
  greeted(
    async (client) => {
      assert.equal(await client.outcome(option.go, info("")), optionError.unknown);
    },
    { a: new MemoryDevice(512), b: new MemoryDevice(512) },
  ),
);

test(
  "malformed options are INVALID, and the handshake goes on",
  greeted(async (client) => {
    const good = info("disk", [1]);
    const bad = [none, good.subarray(0, -1), Buffer.concat([good, none, new Uint8Array(1)])];
    for (const data of [
      ...bad,
      info("a\0b"),
      info("x".repeat(4097)),
      new Uint8Array(4).fill(0xff),
    ]) {
      assert.equal(await client.outcome(option.go, data), optionError.invalid);
    }
    const notUtf8 = info("ab");
    notUtf8[4] = 0xff;
    assert.equal(await client.outcome(option.info, notUtf8), optionError.invalid);
    assert.equal(
      await client.outcome(option.structuredReply, new Uint8Array(2)),
      optionError.invalid,
    );
    assert.equal(await client.outcome(option.go, good), optionReply.ack);
  }),
);

test(
  "an option that is too long is TOO_BIG and skipped; a huge one ends the session",
  greeted(async (client) => {
    assert.equal(await client.outcome(option.go, new Uint8Array(2 ** 20)), optionError.tooBig);
    assert.equal(await client.outcome(option.list), optionReply.ack);
    client.channel.send(new Uint8Array(wire.encodeOption(option.go, new Uint8Array(2 ** 20 + 1))));
    await client.closed();
  }),
);

test(
  "a client that never stops asking is closed",
  greeted(async (client) => {
    client.channel.send(
      Buffer.concat(Array.from({ length: 1025 }, () => wire.encodeOption(99, none))),
    );
    await client.channel.closed;
  }),
);

test("EXPORT_NAME goes straight to transmission, with zeros if they were not declined", async () => {
  await withServer({ disk: new MemoryDevice(sizeBytes) }, async ({ connect }) => {
    for (const [flags, zeros] of [
      [3, 0],
      [1, 124],
      [0, 124],
    ] as const) {
      const client = await connect();
      await client.greet(flags);
      client.channel.send(wire.encodeOption(option.exportName, Buffer.from("disk")));
      const reply = await client.channel.take(10 + zeros);
      assert.equal(wire.decodeExportNameReply(reply).sizeBytes, sizeBytes);
      assert.ok(reply.subarray(10).every((byte) => byte === 0));
      assert.equal(await client.errorOf({ command: 3 }), 0);
    }
  });
});

test(
  "EXPORT_NAME of an unknown export ends the session",
  greeted(async (client) => {
    client.channel.send(wire.encodeOption(option.exportName, Buffer.from("nope")));
    await client.closed();
  }),
);

test(
  "EXPORT_NAME is refused after extended headers",
  greeted(async (client, { exports }) => {
    assert.equal(await client.outcome(option.extendedHeaders), optionReply.ack);
    client.channel.send(wire.encodeOption(option.exportName, Buffer.from("disk")));
    await client.closed();
    await settle();
    assert.equal(exports.clients("disk").length, 0);
  }),
);

test(
  "headers are chosen once, and extended ones are the last word",
  greeted(async (client) => {
    assert.equal(await client.outcome(option.structuredReply), optionReply.ack);
    assert.equal(await client.outcome(option.structuredReply), optionError.invalid);
    assert.equal(await client.outcome(option.extendedHeaders), optionReply.ack);
    assert.equal(await client.outcome(option.extendedHeaders), optionError.invalid);
    const late = await client.outcome(option.structuredReply);
    assert.equal(late, optionError.extendedHeadersRequired);
  }),
);

test(
  "contexts need structured replies first",
  greeted(async (client) => {
    for (const number of [option.listMetaContext, option.setMetaContext]) {
      assert.equal(await client.outcome(number, meta("disk", [])), optionError.invalid);
    }
  }),
);

test(
  "contexts are listed with wildcards and selected by name, each with an id of its own",
  greeted(
    async (client) => {
      await client.option(option.structuredReply);
      const listed = contextsOf(await client.option(option.listMetaContext, meta("disk", [])));
      const all = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:s1"];
      assert.deepEqual(
        listed.map(({ name }) => name),
        all,
      );
      const bitmaps = await client.option(
        option.listMetaContext,
        meta("disk", ["qemu:dirty-bitmap:"]),
      );
      assert.deepEqual(
        contextsOf(bitmaps).map(({ name }) => name),
        ["qemu:dirty-bitmap:s1"],
      );
      const set = contextsOf(await client.option(option.setMetaContext, meta("disk", all)));
      assert.deepEqual(
        set.map(({ name }) => name),
        all,
      );
      assert.equal(new Set(set.map(({ id }) => id)).size, 3);
      assert.equal(
        await client.outcome(option.setMetaContext, meta("disk", ["nope"])),
        optionError.invalid,
      );
      assert.equal(
        await client.outcome(option.setMetaContext, meta("nope", [])),
        optionError.unknown,
      );
      const nothing = await client.option(option.setMetaContext, meta("disk", ["base:"]));
      assert.deepEqual(contextsOf(nothing), []);
    },
    { disk: withBases(["s1"]) },
  ),
);

test(
  "more contexts than can be served are TOO_BIG",
  greeted(
    async (client) => {
      await client.option(option.structuredReply);
      const queries = Array.from({ length: 65 }, (_, index) => `qemu:dirty-bitmap:${index}`);
      assert.equal(
        await client.outcome(option.setMetaContext, meta("disk", queries)),
        optionError.tooBig,
      );
    },
    { disk: withBases(Array.from({ length: 100 }, (_, index) => `${index}`)) },
  ),
);

test(
  "contexts of one export do not count for another, and the last selection counts",
  greeted(
    async (client, { server }) => {
      const connected = () => server.connections()[0]?.contexts;
      await client.option(option.structuredReply);
      await client.option(option.setMetaContext, meta("a", ["base:allocation"]));
      await client.option(option.setMetaContext, meta("b", ["qemu:allocation-depth"]));
      await client.option(option.go, info("a"));
      await settle();
      assert.deepEqual(connected(), []);
    },
    { a: new MemoryDevice(512), b: new MemoryDevice(512) },
  ),
);

test(
  "options open an export once, and close it when another is named or the client leaves",
  greeted(
    async (client, { exports }) => {
      await client.option(option.info, info("a"));
      await client.option(option.info, info("a"));
      assert.equal(exports.clients("a").length, 1);
      await client.option(option.info, info("b"));
      assert.equal(exports.clients("a").length, 0);
      client.connection.destroy();
      await settle();
      assert.equal(exports.clients("b").length, 0);
    },
    { a: new MemoryDevice(512), b: new MemoryDevice(512) },
  ),
);

test("a client that asks and asks and never listens costs bounded memory", async () => {
  const served = await serve({ disk: new MemoryDevice(512) });
  const description = "x".repeat(4000);
  served.exports.list = async () =>
    Array.from({ length: 500 }, (_, index) => ({ name: `${index}`, description }));
  const client = await served.connect();
  await client.greet();
  client.connection.pause();
  const lists = Array.from({ length: 100 }, () => wire.encodeOption(option.list, none));
  client.connection.write([Buffer.concat(lists)]);
  await settle();
  const peak = served.net.accepted[0]?.queuedBytesPeak ?? 0;
  assert.ok(peak > 2 ** 20 && peak < 5 * 2 ** 20, `${peak} bytes of replies are queued`);
  client.connection.resume();
  for (let count = 0; count < 100; count++) {
    assert.equal((await client.optionReplies(option.list)).length, 501);
  }
  await served.stop();
});

test("an export that is busy is refused by POLICY, one that fails by PLATFORM", async () => {
  const served = await serve({ disk: new MemoryDevice(512) });
  const client = await served.connect();
  await client.greet();
  for (const [error, type] of [
    [new KelpieError("busy", "claimed by vm1"), optionError.policy],
    [new KelpieError("io", "disk on fire"), optionError.platform],
    [new TypeError("a mistake of ours"), optionError.platform],
  ] as const) {
    served.exports.open = () => Promise.reject(error);
    assert.equal(await client.outcome(option.go, info("disk")), type);
  }
  await served.stop();
});

test("a handshake that takes too long is cut off", async () => {
  const { connect, timers, stop } = await serve({ disk: new MemoryDevice(512) });
  const client = await connect();
  await client.greet();
  timers.advance(29_999);
  assert.equal(await client.outcome(option.list), optionReply.ack);
  timers.advance(1);
  await client.closed();
  await stop();
});

test("no time limit runs once the transmission phase has begun", async () => {
  const { connect, timers, stop } = await serve({ disk: new MemoryDevice(512) });
  const client = await (await connect()).go("disk");
  timers.advance(10 * 30_000);
  assert.equal(await client.errorOf({ command: 3 }), 0);
  await stop();
});
