import assert from "node:assert/strict";
import { test } from "node:test";
import { GatedDevice } from "../../test/support/gated-device.ts";
import { errorIn, type RawClient, serve, settle } from "../../test/support/raw-nbd.ts";
import { readU32, readU64 } from "../base/bytes.ts";
import { KelpieError } from "../base/errors.ts";
import type { BlockDevice, Extent, ExtentQuery } from "../block/block-device.ts";
import { FaultDevice } from "../block/fault.ts";
import { MemoryDevice } from "../block/memory-device.ts";
import { readOnlyDevice } from "../block/read-only.ts";
import { errno } from "./errno.ts";
import {
  chunkFlag,
  chunkType,
  command,
  commandFlag,
  decodeBlockStatus,
  extendedReplyMagic,
  type HeaderStyle,
  simpleReplyMagic,
  structuredReplyMagic,
} from "./wire-transmission.ts";

const sizeBytes = 64 * 2 ** 20;
const mebibyte = 2 ** 20;
const styles: HeaderStyle[] = ["simple", "structured", "extended"];
const { read, write, flush, trim, cache, writeZeroes, blockStatus, disconnect } = command;
const { fua, noHole, dontFragment, requestOne, fastZero, payloadLength } = commandFlag;

interface Options {
  device?: BlockDevice;
  style?: HeaderStyle;
  contexts?: string[];
}

async function withClient(options: Options, body: (client: RawClient) => Promise<void>) {
  const { device = new MemoryDevice(sizeBytes), style = "structured", contexts = [] } = options;
  // Odd pieces, so that headers and payloads straddle them.
  const { stop, connect } = await serve({ disk: device }, { net: { chunkBytesMax: 50_001 } });
  try {
    await body(await (await connect()).go("disk", style, contexts));
  } finally {
    await stop();
  }
}

/** A device that notes what it is asked with which options. */
function noting() {
  const notes: unknown[] = [];
  const device: BlockDevice = new MemoryDevice(sizeBytes);
  device.write = (_, offset, options) => void notes.push(["write", offset, options ?? {}]);
  device.zero = (...request) => void notes.push(["zero", ...request]);
  device.trim = (...request) => void notes.push(["trim", ...request]);
  device.flush = () => void notes.push(["flush"]);
  device.cache = (offset, length) => void notes.push(["cache", offset, length]);
  return { device, notes };
}

for (const style of styles) {
  test(`${style}: what is written is read back, at any byte range`, async () => {
    await withClient({ style }, async (client) => {
      const bytes = Buffer.from("some bytes that are not a sector");
      assert.equal(await client.errorOf({ command: write, offset: 1001 }, bytes), 0);
      client.send({ command: read, offset: 999, length: 40, cookieLow: 5 });
      const [reply] = await client.replies(40);
      assert.ok(reply);
      const data = style === "simple" ? reply.payload : reply.payload.subarray(8);
      assert.equal(Buffer.from(data).toString("latin1"), `\0\0${bytes}${"\0".repeat(6)}`);
      if (style !== "simple") assert.equal(readU64(reply.payload, 0), 999);
      assert.equal(reply.cookieHigh, -1);
      assert.equal(reply.cookieLow, 5);
    });
  });

  test(`${style}: replies have the form that was negotiated`, async () => {
    const faulty = new FaultDevice(new MemoryDevice(sizeBytes));
    faulty.inject({ range: { start: 0, end: 512 }, times: Number.POSITIVE_INFINITY });
    await withClient({ style, device: faulty.device }, async (client) => {
      const magicOf = async (number: number, offset: number) => {
        client.send({ command: number, offset, length: 512 });
        return (await client.replies(number === read ? 512 : 0))[0]?.magic;
      };
      const chunk = style === "extended" ? extendedReplyMagic : structuredReplyMagic;
      const isSimple = style === "simple";
      assert.equal(await magicOf(read, 4096), isSimple ? simpleReplyMagic : chunk);
      // "every READ, a failed one too, is answered with structured chunks"
      assert.equal(await magicOf(read, 0), isSimple ? simpleReplyMagic : chunk);
      assert.equal(await magicOf(read, sizeBytes), isSimple ? simpleReplyMagic : chunk);
      // "with extended headers simple replies are forbidden"
      const other = await magicOf(trim, 4096);
      assert.equal(other, style === "extended" ? chunk : simpleReplyMagic);
    });
  });

  test(`${style}: a request that is wrong gets its error, and the next is served`, async () => {
    await withClient({ style }, async (client) => {
      const wrong: [number, { command: number }, Uint8Array?][] = [
        [errno.EINVAL, { command: 8 }],
        [errno.EINVAL, { command: 0xffff }],
        [errno.EINVAL, { command: read, flags: noHole, length: 1 } as never],
        [errno.EINVAL, { command: trim, flags: fastZero, length: 1 } as never],
        [errno.EINVAL, { command: flush, flags: 1 << 15 } as never],
        [errno.EINVAL, { command: read, offset: sizeBytes - 1, length: 2 } as never],
        [errno.EINVAL, { command: read, offset: 2 ** 63, length: 1 } as never],
        [errno.ENOSPC, { command: write, offset: sizeBytes - 1 } as never, new Uint8Array(2)],
        [errno.ENOSPC, { command: writeZeroes, offset: sizeBytes, length: 512 } as never],
        [errno.EINVAL, { command: trim, offset: sizeBytes, length: 512 } as never],
        [errno.EINVAL, { command: blockStatus, length: 512 } as never],
      ];
      for (const [expected, request, payload] of wrong) {
        assert.equal(await client.errorOf(request, payload), expected, JSON.stringify(request));
        assert.equal(await client.errorOf({ command: flush }), 0);
      }
    });
  });

  test(`${style}: a read of 4 GiB is refused without taking memory`, async () => {
    await withClient({ style, device: new MemoryDevice(2 ** 40) }, async (client) => {
      const before = process.memoryUsage().arrayBuffers;
      const length = 2 ** 32 - 512;
      assert.equal(await client.errorOf({ command: read, length }), errno.EINVAL);
      if (style !== "simple") {
        const refused = await client.errorOf({ command: read, length, flags: dontFragment });
        assert.equal(refused, errno.EOVERFLOW);
      }
      assert.ok(process.memoryUsage().arrayBuffers - before < 2 ** 20);
      assert.equal(await client.errorOf({ command: read, length: 32 * mebibyte }), 0);
    });
  });

  test(`${style}: a payload over the limit is skipped, one far over it ends the session`, async () => {
    await withClient({ style }, async (client) => {
      const tooLong = new Uint8Array(32 * mebibyte + 1);
      assert.equal(await client.errorOf({ command: write }, tooLong), errno.EINVAL);
      assert.equal(await client.errorOf({ command: write }, tooLong.subarray(1)), 0);
      client.send({ command: write, length: 2 ** 28 + 1 });
      await client.closed();
    });
  });

  test(`${style}: trim, zero and cache may be far longer than a payload`, async () => {
    await withClient({ style, device: new MemoryDevice(8 * 2 ** 40) }, async (client) => {
      const length = style === "extended" ? 8 * 2 ** 40 : 2 ** 32 - 512;
      for (const number of [trim, writeZeroes, cache]) {
        assert.equal(await client.errorOf({ command: number, length }), 0);
      }
    });
  });

  test(`${style}: a read of nothing is answered with nothing`, async () => {
    await withClient({ style }, async (client) => {
      client.send({ command: read, length: 0 });
      const [reply] = await client.replies();
      assert.equal(reply?.payload.length, 0);
      assert.equal(reply?.magic === simpleReplyMagic, style === "simple");
      assert.equal(reply?.type, chunkType.none);
      assert.equal(await client.errorOf({ command: write, offset: 0 }), 0);
    });
  });
}

test("a wrong magic number ends the session", async () => {
  for (const style of styles) {
    await withClient({ style }, async (client) => {
      const request = client.request({ command: flush });
      request[0] = 0;
      client.channel.send(request);
      await client.closed();
    });
  }
});

test("FUA may come with every command and reaches those that change something", async () => {
  const { device, notes } = noting();
  await withClient({ device, contexts: ["base:allocation"] }, async (client) => {
    const range = { offset: 512, length: 512 };
    await client.errorOf({ command: write, flags: fua, offset: 512 }, new Uint8Array(512));
    await client.errorOf({ command: write, flags: fua, offset: 0 }, new Uint8Array(512));
    await client.errorOf({ command: write, offset: 0 }, new Uint8Array(1));
    for (const number of [trim, writeZeroes, cache, read, blockStatus]) {
      assert.equal(await client.errorOf({ command: number, flags: fua, ...range }), 0);
    }
    assert.equal(await client.errorOf({ command: flush, flags: fua }), 0);
    assert.deepEqual(notes, [
      ["write", 512, { fua: true }],
      ["write", 0, { fua: true }],
      ["write", 0, {}],
      ["trim", 512, 512, { fua: true }],
      ["zero", 512, 512, { fua: true, keepAllocated: false, fast: false }],
      ["cache", 512, 512],
      ["flush"],
    ]);
  });
});

test("NO_HOLE keeps the range allocated and FAST_ZERO asks for speed", async () => {
  const { device, notes } = noting();
  await withClient({ device }, async (client) => {
    await client.errorOf({ command: writeZeroes, flags: noHole, length: 4096 });
    await client.errorOf({ command: writeZeroes, flags: fastZero, length: 4096 });
    assert.deepEqual(notes, [
      ["zero", 0, 4096, { fua: false, keepAllocated: true, fast: false }],
      ["zero", 0, 4096, { fua: false, keepAllocated: false, fast: true }],
    ]);
  });
});

test("each failure of a device has its error number, and a message", async () => {
  const faulty = new FaultDevice(new MemoryDevice(sizeBytes));
  await withClient({ device: faulty.device }, async (client) => {
    for (const [code, number] of [
      ["io", errno.EIO],
      ["corrupt", errno.EIO],
      ["no-space", errno.ENOSPC],
      ["read-only", errno.EPERM],
      ["unsupported", errno.ENOTSUP],
      ["closed", errno.ESHUTDOWN],
    ] as const) {
      faulty.inject({ code });
      client.send({ command: writeZeroes, length: 512 });
      const replies = await client.replies();
      assert.equal(errorIn(replies), number);
      assert.match(Buffer.from(replies[0]?.payload ?? []).toString(), /injected fault: zero at 0/);
    }
  });
});

test("writing to a read-only disk is EPERM, and its payload is skipped", async () => {
  const device = readOnlyDevice(new MemoryDevice(sizeBytes));
  await withClient({ device }, async (client) => {
    assert.equal(await client.errorOf({ command: write }, new Uint8Array(5000)), errno.EPERM);
    assert.equal(await client.errorOf({ command: trim, length: 1 }), errno.EPERM);
    assert.equal(await client.errorOf({ command: writeZeroes, length: 1 }), errno.EPERM);
    assert.equal(await client.errorOf({ command: read, length: 1 }), 0);
    assert.equal(await client.errorOf({ command: flush }), 0);
  });
});

test("an unexpected exception in a device is EIO for that request only", async () => {
  const device = new MemoryDevice(sizeBytes);
  device.read = () => {
    throw new TypeError("a mistake of ours");
  };
  await withClient({ device }, async (client) => {
    assert.equal(await client.errorOf({ command: read, length: 512 }), errno.EIO);
    assert.equal(await client.errorOf({ command: flush }), 0);
  });
});

test("PAYLOAD_LEN is known with extended headers only; a payload where none belongs is skipped", async () => {
  await withClient({ style: "structured" }, async (client) => {
    const flags = payloadLength;
    assert.equal(await client.errorOf({ command: write, flags }, new Uint8Array(9)), errno.EINVAL);
    assert.equal(await client.errorOf({ command: flush }), 0);
  });
  await withClient({ style: "extended" }, async (client) => {
    // A client that forgets the flag is understood all the same.
    assert.equal(await client.errorOf({ command: write, flags: 0 }, new Uint8Array(9)), 0);
    for (const number of [trim, read, blockStatus, 99]) {
      const request = { command: number, flags: payloadLength };
      assert.equal(await client.errorOf(request, new Uint8Array(77)), errno.EINVAL);
    }
    assert.equal(await client.errorOf({ command: flush }), 0);
  });
});

test("an extended reply echoes the offset, whatever it is", async () => {
  await withClient({ style: "extended" }, async (client) => {
    client.send({ command: trim, offset: 0x12345600, length: 512 });
    const [far] = await client.replies();
    assert.deepEqual([far?.offsetHigh, far?.offsetLow], [0, 0x12345600]);
    const request = client.request({ command: read, length: 1 });
    request.fill(0xff, 16, 24);
    client.channel.send(request);
    const [odd] = await client.replies();
    assert.deepEqual([odd?.offsetHigh, odd?.offsetLow], [-1, -1]);
  });
});

/** A disk that is described as these extents whatever is asked, and remembers the question. */
function described(extents: Extent[], bases: string[] = []) {
  const queries: ExtentQuery[] = [];
  const device: BlockDevice = new MemoryDevice(sizeBytes);
  device.changeBases = async () => bases;
  device.extents = async (query) => {
    queries.push(query);
    return extents.slice(0, query.extentsMax);
  };
  return { device, queries };
}

for (const style of ["structured", "extended"] as const) {
  test(`${style}: block status has one chunk for each context, the last one marked`, async () => {
    const values = [0, 1, 2].map((value) => ({ lengthBytes: 4096 * (value + 1), value }));
    const { device, queries } = described(values, ["s1"]);
    const contexts = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:s1"];
    await withClient({ style, device, contexts }, async (client) => {
      client.send({ command: blockStatus, offset: 512, length: 65_536 });
      const replies = await client.replies();
      const type = style === "extended" ? chunkType.blockStatusExtended : chunkType.blockStatus;
      assert.deepEqual(
        replies.map((reply) => reply.type),
        [type, type, type],
      );
      assert.deepEqual(
        replies.map(({ flags }) => flags),
        [0, 0, chunkFlag.done],
      );
      const statuses = replies.map(({ payload }) =>
        decodeBlockStatus(payload, style === "extended"),
      );
      assert.equal(new Set(statuses.map(({ contextId }) => contextId)).size, 3);
      const flags = statuses.map(({ extents }) => extents.map(({ value }) => value));
      assert.deepEqual(flags, [
        [0, 3, 2],
        [0, 1, 2],
        [0, 1, 2],
      ]);
      assert.deepEqual(
        queries.map(({ kind }) => kind),
        ["allocation", "depth", "changed"],
      );
      const { extentsMax } = queries[0] as ExtentQuery;
      assert.ok(extentsMax > 1 && extentsMax <= 2 ** 20);
    });
  });
}

test("REQ_ONE asks for one extent within the request", async () => {
  const { device, queries } = described([
    { lengthBytes: 512, value: 0 },
    { lengthBytes: 512, value: 1 },
  ]);
  await withClient({ device, contexts: ["base:allocation"] }, async (client) => {
    client.send({ command: blockStatus, flags: requestOne, length: 4096 });
    const [reply] = await client.replies();
    assert.ok(reply);
    assert.equal(decodeBlockStatus(reply.payload, false).extents.length, 1);
    assert.deepEqual(queries, [{ kind: "allocation", offset: 0, length: 4096, extentsMax: 1 }]);
  });
});

test("64-bit block status describes terabytes at once", async () => {
  const device = new MemoryDevice(8 * 2 ** 40);
  await withClient({ device, style: "extended", contexts: ["base:allocation"] }, async (client) => {
    client.send({ command: blockStatus, length: 8 * 2 ** 40 });
    const [reply] = await client.replies();
    const status = decodeBlockStatus(reply?.payload ?? new Uint8Array(0), true);
    assert.deepEqual(status.extents, [{ lengthBytes: 8 * 2 ** 40, value: 3 }]);
  });
});

test("block status past the end is EINVAL, of nothing too, and a failing device is told", async () => {
  const faulty = new FaultDevice(new MemoryDevice(sizeBytes));
  await withClient({ device: faulty.device, contexts: ["base:allocation"] }, async (client) => {
    const beyond = { command: blockStatus, offset: sizeBytes - 512, length: 1024 };
    assert.equal(await client.errorOf(beyond), errno.EINVAL);
    assert.equal(await client.errorOf({ command: blockStatus, length: 0 }), errno.EINVAL);
    faulty.inject({ operation: "extents" });
    assert.equal(await client.errorOf({ command: blockStatus, length: 512 }), errno.EIO);
    assert.equal(await client.errorOf({ command: blockStatus, length: 512 }), 0);
  });
});

test("requests are answered as they complete, whatever came first", async () => {
  const gate = new GatedDevice(new MemoryDevice(sizeBytes));
  await withClient({ device: gate.device }, async (client) => {
    client.send({ command: read, length: 512, cookieLow: 1 });
    client.send({ command: write, cookieLow: 2 }, new Uint8Array(512).fill(7));
    client.send({ command: flush, cookieLow: 3 });
    await settle();
    assert.deepEqual(
      gate.waiting.map(({ request }) => request.operation),
      ["read", "write", "flush"],
    );
    for (const [operation, cookie] of [
      ["write", 2],
      ["flush", 3],
      ["read", 1],
    ] as const) {
      gate.release(operation);
      const [reply] = await client.replies();
      assert.equal(reply?.cookieLow, cookie);
      if (cookie === 1) assert.equal(reply?.payload[8], 7);
    }
  });
});

test("late reads do not damage the replies around them", async () => {
  const memory = new MemoryDevice(sizeBytes);
  for (let index = 0; index < 64; index++)
    memory.write([new Uint8Array(4096).fill(index + 1)], index * 4096);
  const late: (() => void)[] = [];
  const device = new MemoryDevice(sizeBytes);
  device.write = memory.write.bind(memory);
  device.read = ((target: Uint8Array, offset: number) => {
    if (offset % 12_288 !== 0) return memory.read(target, offset);
    return new Promise<void>((resolve) => {
      late.push(() => resolve(memory.read(target, offset)));
    });
  }) as typeof device.read;
  await withClient({ device }, async (client) => {
    const requests = Array.from({ length: 64 }, (_, index) =>
      client.request({ command: read, offset: index * 4096, length: 4096, cookieLow: index }),
    );
    client.channel.send(Buffer.concat(requests));
    await settle();
    for (const release of late.reverse()) release();
    const seen = new Set<number>();
    for (let count = 0; count < 64; count++) {
      const [reply] = await client.replies();
      assert.ok(reply);
      seen.add(reply.cookieLow);
      assert.equal(readU64(reply.payload, 0), reply.cookieLow * 4096);
      const data = reply.payload.subarray(8);
      assert.ok(
        data.every((byte) => byte === reply.cookieLow + 1),
        `reply ${reply.cookieLow}`,
      );
    }
    assert.equal(seen.size, 64);
  });
});

test("DISC finishes what is in flight, then closes", async () => {
  const gate = new GatedDevice(new MemoryDevice(sizeBytes));
  const { stop, connect, exports } = await serve({ disk: gate.device });
  const client = await (await connect()).go("disk");
  client.send({ command: write, cookieLow: 9 }, new Uint8Array(512));
  client.send({ command: disconnect });
  client.send({ command: flush }); // must not be sent, and is not heard
  await settle();
  assert.equal(gate.waiting.length, 1);
  gate.releaseAll();
  assert.equal((await client.reply()).cookieLow, 9);
  await client.closed();
  await settle();
  assert.equal(exports.clients("disk").length, 0);
  await stop();
});

test("errors carry the number in the first four bytes of an error chunk", async () => {
  await withClient({}, async (client) => {
    client.send({ command: 77 });
    const [reply] = await client.replies();
    assert.equal(reply?.type, chunkType.error);
    assert.equal(readU32(reply?.payload ?? new Uint8Array(4), 0), errno.EINVAL);
  });
});

test("a flush is handed over behind every write that was answered", async () => {
  const gate = new GatedDevice(new MemoryDevice(sizeBytes));
  await withClient({ device: gate.device }, async (client) => {
    client.send({ command: write, cookieLow: 1 }, new Uint8Array(512));
    await settle();
    gate.releaseAll();
    await client.reply();
    client.send({ command: flush, cookieLow: 2 });
    await settle();
    assert.deepEqual(
      gate.waiting.map(({ request }) => request.operation),
      ["flush"],
    );
    gate.waiting.splice(0)[0]?.fail(new KelpieError("io", "no sync"));
    assert.equal(errorIn(await client.replies()), errno.EIO);
  });
});
