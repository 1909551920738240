import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import * as handshake from "./wire-handshake.ts";
import * as wire from "./wire-transmission.ts";

const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const i32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const u64 = fc.maxSafeNat();
const text = fc.string({ unit: "grapheme", maxLength: 40 }).filter((s) => !s.includes("\0"));
const wellFormed = text.map((s) => s.toWellFormed());

test("the greeting is what every NBD server says first", () => {
  const greeting = handshake.encodeGreeting(3);
  assert.equal(Buffer.from(greeting).toString("latin1"), "NBDMAGICIHAVEOPT\0\x03");
  assert.equal(handshake.decodeGreeting(greeting), 3);
  assert.throws(() => handshake.decodeGreeting(new Uint8Array(18)), { code: "invalid" });
});

test("an option reply has the bytes of the specification", () => {
  const reply = handshake.encodeOptionReply(7, handshake.optionError.unknown, new Uint8Array([9]));
  const hex = "0003e889045565a9" + "00000007" + "80000006" + "00000001" + "09";
  assert.equal(Buffer.from(reply).toString("hex"), hex);
});

test("requests have the bytes of the specification", () => {
  const request = { flags: 1, command: 4, cookieHigh: 0x01020304, cookieLow: -2 };
  const range = { offset: 0x1234567890, length: 0x200 };
  assert.equal(
    Buffer.from(wire.encodeRequest({ ...request, ...range }, false)).toString("hex"),
    "25609513" + "0001" + "0004" + "01020304fffffffe" + "0000001234567890" + "00000200",
  );
  assert.equal(
    Buffer.from(wire.encodeRequest({ ...request, ...range }, true)).toString("hex"),
    "21e41c71" + "0001" + "0004" + "01020304fffffffe" + "0000001234567890" + "0000000000000200",
  );
});

test("handshake messages are decoded as they were encoded", () => {
  fc.assert(
    fc.property(u32, u32, fc.uint8Array(), (number, type, data) => {
      const option = handshake.encodeOption(number, data);
      const expected = { option: number, length: data.length };
      assert.deepEqual(handshake.decodeOptionHeader(option.subarray(0, 16)), expected);
      assert.deepEqual(option.subarray(16), data);
      const reply = handshake.encodeOptionReply(number, type, data);
      assert.deepEqual(handshake.decodeOptionReplyHeader(reply), { ...expected, type });
    }),
  );
  fc.assert(
    fc.property(
      wellFormed,
      fc.array(u16),
      fc.array(wellFormed),
      u32,
      (name, wanted, queries, id) => {
        const info = handshake.encodeInfoRequest({ name, wanted });
        assert.deepEqual(handshake.decodeInfoRequest(info), { name, wanted });
        const meta = handshake.encodeMetaContextRequest({ name, queries });
        assert.deepEqual(handshake.decodeMetaContextRequest(meta), { name, queries });
        const context = handshake.encodeMetaContext({ id, name });
        assert.deepEqual(handshake.decodeMetaContext(context), { id, name });
        const description = queries.join();
        const listed = handshake.encodeListedExport({ name, description });
        assert.deepEqual(handshake.decodeListedExport(listed), { name, description });
      },
    ),
  );
  fc.assert(
    fc.property(u64, u16, u32, wellFormed, (sizeBytes, transmissionFlags, size, name) => {
      const sizes = { minimumBytes: size, preferredBytes: 1, payloadBytesMax: size };
      for (const info of [
        { type: "export", sizeBytes, transmissionFlags },
        { type: "name", name },
        { type: "description", description: name },
        { type: "block-size", ...sizes },
      ] as const) {
        assert.deepEqual(handshake.decodeInfo(handshake.encodeInfo(info)), info);
      }
      const facts = { sizeBytes, transmissionFlags };
      for (const noZeroes of [true, false]) {
        const reply = handshake.encodeExportNameReply(facts, noZeroes);
        assert.equal(reply.length, noZeroes ? 10 : 134);
        assert.deepEqual(handshake.decodeExportNameReply(reply), facts);
      }
    }),
  );
});

test("requests and replies are decoded as they were encoded", () => {
  fc.assert(
    fc.property(
      u16,
      u16,
      i32,
      i32,
      u64,
      u64,
      (flags, command, cookieHigh, cookieLow, offset, length) => {
        for (const extended of [false, true]) {
          const request = { flags, command, cookieHigh, cookieLow, offset };
          const sized = { ...request, length: extended ? length : length % 2 ** 32 };
          const decoded = new wire.RequestHeader();
          const bytes = Buffer.concat([new Uint8Array(3), wire.encodeRequest(sized, extended)]);
          if (extended) wire.decodeExtendedRequest(bytes, 3, decoded);
          else wire.decodeRequest(bytes, 3, decoded);
          const { magic, offsetHigh, offsetLow, ...rest } = decoded;
          assert.deepEqual(rest, sized);
          assert.equal(magic, extended ? wire.extendedRequestMagic : wire.requestMagic);
          assert.equal((offsetHigh >>> 0) * 2 ** 32 + (offsetLow >>> 0), offset);
        }
      },
    ),
  );
  fc.assert(
    fc.property(u16, u16, i32, i32, i32, u64, (flags, type, high, low, offset, length) => {
      for (const extended of [false, true]) {
        const header = {
          flags,
          type,
          cookieHigh: high,
          cookieLow: low,
          offsetHigh: extended ? offset : 0,
          offsetLow: extended ? high : 0,
          length: extended ? length : length % 2 ** 32,
        };
        const bytes = new Uint8Array(40);
        wire.encodeChunkHeader(bytes, 5, header, extended);
        const decoded = new wire.ChunkHeader();
        wire.decodeReplyHeader(bytes, 5, decoded);
        const { magic, error, ...rest } = decoded;
        assert.deepEqual(rest, header);
        assert.equal(wire.replyHeaderBytes(magic), extended ? 32 : 20);
        assert.equal(error, 0);
      }
    }),
  );
});

test("chunk payloads are decoded as they were encoded", () => {
  const extent = (max: number) =>
    fc
      .tuple(fc.integer({ min: 1, max }), fc.nat(max))
      .map(([lengthBytes, value]) => ({ lengthBytes, value }));
  fc.assert(
    fc.property(u32, fc.array(extent(0xffffffff), { minLength: 1 }), (contextId, extents) => {
      for (const extended of [false, true]) {
        const payload = wire.encodeBlockStatus({ contextId, extents }, extended);
        assert.equal(payload.length, extended ? 8 + 16 * extents.length : 4 + 8 * extents.length);
        assert.deepEqual(wire.decodeBlockStatus(payload, extended), { contextId, extents });
      }
    }),
  );
  fc.assert(
    fc.property(u64, u32, wellFormed, (offset, length, message) => {
      const hole = wire.encodeOffsetHole(offset, length);
      assert.deepEqual(wire.decodeOffsetHole(hole), { offset, length });
      const error = wire.encodeError({ error: 5, message });
      assert.deepEqual(wire.decodeError(error), { error: 5, message });
    }),
  );
});

test("64-bit extents keep 64-bit lengths", () => {
  const status = { contextId: 1, extents: [{ lengthBytes: 2 ** 44, value: 3 }] };
  assert.deepEqual(wire.decodeBlockStatus(wire.encodeBlockStatus(status, true), true), status);
});

test("a block status of more extents than the protocol allows is refused", () => {
  const payload = Buffer.alloc(4 + 8 * (wire.blockStatusExtentsMax + 1), 1);
  assert.throws(() => wire.decodeBlockStatus(payload, false), { code: "invalid" });
  const most = wire.decodeBlockStatus(payload.subarray(0, -8), false);
  assert.equal(most.extents.length, wire.blockStatusExtentsMax);
});

test("decoders refuse what cannot be, and do not fail otherwise", () => {
  const decoders = [
    handshake.decodeGreeting,
    handshake.decodeOptionHeader,
    handshake.decodeOptionReplyHeader,
    handshake.decodeInfoRequest,
    handshake.decodeMetaContextRequest,
    handshake.decodeInfo,
    handshake.decodeMetaContext,
    handshake.decodeListedExport,
    wire.decodeError,
    wire.decodeOffsetHole,
    (bytes: Uint8Array) => wire.decodeBlockStatus(bytes, false),
    (bytes: Uint8Array) => wire.decodeBlockStatus(bytes, true),
  ];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const decode of decoders) {
        try {
          decode(bytes);
        } catch (error) {
          assert.equal((error as { code?: string }).code, "invalid", String(error));
        }
      }
    }),
    { numRuns: 300 },
  );
  const emptyExtent = wire.encodeBlockStatus(
    { contextId: 1, extents: [{ lengthBytes: 0, value: 0 }] },
    false,
  );
  assert.throws(() => wire.decodeBlockStatus(emptyExtent, false), { code: "invalid" });
  assert.throws(() => wire.decodeBlockStatus(new Uint8Array(4), false), { code: "invalid" });
  assert.throws(() => wire.decodeError(new Uint8Array(6)), { code: "invalid" });
});

test("names with a zero byte, or too long, are refused", () => {
  const named = (name: string) => handshake.encodeInfoRequest({ name, wanted: [] });
  assert.throws(() => handshake.decodeInfoRequest(named("a\0b")), { code: "invalid" });
  assert.throws(() => handshake.decodeInfoRequest(named("a".repeat(4097))), { code: "invalid" });
  assert.equal(handshake.decodeInfoRequest(named("a".repeat(4096))).name.length, 4096);
});

test("a long error message is cut", () => {
  const payload = wire.encodeError({ error: 5, message: "x".repeat(10_000) });
  assert.equal(wire.decodeError(payload).message.length, wire.errorMessageBytesMax);
});
