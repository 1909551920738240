import assert from "node:assert/strict";
import {
  command,
  decodeRequest,
  encodeChunkHeader,
  encodeRequest,
  encodeSimpleReply,
  RequestHeader,
  requestBytes,
  structuredChunkBytes,
} from "../../src/nbd/wire-transmission.ts";
import {
  type BatchEntry,
  batchHeaderIsValid,
  batchSeed,
  encodeBatchHeader,
  entryKind,
  peekBatchHeader,
} from "../../src/store/formats/batch.ts";
import type { MicroBench } from "./micro-bench.ts";

const depth = 32;

/** As they stand in one incoming chunk at queue depth 32. */
function requests(): Uint8Array {
  return Buffer.concat(
    Array.from({ length: depth }, (_, at) =>
      encodeRequest(
        {
          flags: 0,
          command: command.read,
          cookieHigh: 0,
          cookieLow: at,
          offset: at * 2 ** 33,
          length: 4096,
        },
        false,
      ),
    ),
  );
}

const parse: MicroBench = {
  name: "NBD: parse a request",
  prepare: async () => {
    const bytes = requests();
    const request = new RequestHeader();
    let right = 0;
    return {
      run(count) {
        for (let done = 0; done < count; done++) {
          const at = done % depth;
          decodeRequest(bytes, at * requestBytes, request);
          if (request.offset === at * 2 ** 33 && request.cookieLow === at) right++;
        }
      },
      check(count) {
        assert.equal(right, count);
        assert.equal(request.command, command.read);
        assert.equal(request.length, 4096);
      },
    };
  },
};

const simpleReply: MicroBench = {
  name: "NBD: encode a simple reply",
  prepare: async () => {
    const bytes = new Uint8Array(16);
    let done = 0;
    return {
      run(count) {
        for (let at = 0; at < count; at++) encodeSimpleReply(bytes, 0, 0, 1, done++);
      },
      check(count) {
        assert.equal(done, count);
        assert.equal(Buffer.from(bytes).readUInt32BE(12), (count - 1) >>> 0);
      },
    };
  },
};

const chunkHeader: MicroBench = {
  name: "NBD: encode the header of a structured reply",
  prepare: async () => {
    const bytes = new Uint8Array(structuredChunkBytes);
    const header = {
      flags: 1,
      type: 1,
      cookieHigh: 1,
      cookieLow: 0,
      offsetHigh: 0,
      offsetLow: 0,
      length: 4104,
    };
    return {
      run(count) {
        for (let at = 0; at < count; at++) {
          header.cookieLow++;
          encodeChunkHeader(bytes, 0, header, false);
        }
      },
      check(count) {
        assert.equal(Buffer.from(bytes).readUInt32BE(12), count >>> 0);
        assert.equal(Buffer.from(bytes).readUInt32BE(16), 4104);
      },
    };
  },
};

const seed = batchSeed(Buffer.alloc(16, 9));
const place = {
  log: 7,
  segment: 3,
  position: 8,
  previous: 1,
  syncedSegment: 0,
  syncedUnits: 0,
};

/** Of random writes: each block is an entry of its own. */
function entries(): BatchEntry[] {
  return Array.from({ length: depth }, (_, at) => ({
    kind: entryKind.data,
    block: at * 1000,
    count: 1,
  }));
}

const encodeBatch: MicroBench = {
  name: "batch header of 32 blocks: encode",
  prepare: async () => {
    const batch = entries();
    const crcs = Uint32Array.from(batch, (_, at) => at);
    let bytes = 0;
    return {
      run(count) {
        for (let at = 0; at < count; at++) {
          bytes += encodeBatchHeader(place, batch, crcs, seed).header.length;
        }
      },
      check: (count) => assert.equal(bytes, count * 1024),
    };
  },
};

const decodeBatch: MicroBench = {
  name: "batch header of 32 blocks: decode and check",
  prepare: async () => {
    const batch = entries();
    const { header } = encodeBatchHeader(place, batch, new Uint32Array(batch.length), seed);
    let blocks = 0;
    return {
      run(count) {
        for (let at = 0; at < count; at++) {
          const found = peekBatchHeader(header);
          if (found !== undefined && batchHeaderIsValid(header, found, seed)) {
            blocks += found.blockCount;
          }
        }
      },
      check: (count) => assert.equal(blocks, count * depth),
    };
  },
};

export const codecBenches = [parse, simpleReply, chunkHeader, encodeBatch, decodeBatch];
