import type { SeededRandom } from "../../sim/random.ts";
import * as handshake from "../../src/nbd/wire-handshake.ts";
import { command, commandFlag, encodeRequest } from "../../src/nbd/wire-transmission.ts";
import type { Turn } from "./fuzzed-peer.ts";
import { mutate } from "./mutate.ts";

type Style = "simple" | "structured" | "extended";

/**
 * A session made of well-formed messages in a senseless order, with senseless fields; now and then a
 * message that is not well-formed.
 */
export function randomTurns(random: SeededRandom): Turn[] {
  const style = pick(random, ["simple", "structured", "extended"] as const);
  const messages: Buffer[] = [
    Buffer.from([0, 0, 0, random.below(20) === 0 ? random.below(256) : 3]),
  ];
  if (style !== "simple") {
    const { structuredReply, extendedHeaders } = handshake.option;
    messages.push(option(style === "extended" ? extendedHeaders : structuredReply, none));
  }
  for (let count = random.below(6); count > 0; count--) messages.push(randomOption(random));
  if (style !== "simple" && random.below(2) === 0) {
    const queries = ["base:allocation", "qemu:allocation-depth"].slice(random.below(2));
    messages.push(
      option(
        handshake.option.setMetaContext,
        handshake.encodeMetaContextRequest({ name: "disk", queries }),
      ),
    );
  }
  messages.push(
    option(handshake.option.go, handshake.encodeInfoRequest({ name: "disk", wanted: [] })),
  );
  for (let count = random.below(40); count > 0; count--) {
    messages.push(randomRequest(random, style));
  }
  return messages.map((message) => ({
    heardBytes: 0,
    bytes: random.below(60) === 0 ? mutate(message, random, messages) : message,
  }));
}

const none = new Uint8Array(0);

function option(number: number, data: Uint8Array): Buffer {
  return Buffer.from(handshake.encodeOption(number, data));
}

function randomOption(random: SeededRandom): Buffer {
  const name = pick(random, ["disk", "", "nope", "disk@1", "x".repeat(4096), "\u0000", "ü"]);
  const queries = Array.from({ length: random.below(5) }, () =>
    pick(random, ["base:", "base:allocation", "qemu:", "qemu:dirty-bitmap:x", "", "x".repeat(999)]),
  );
  const wanted = Array.from({ length: random.below(5) }, () => random.below(6));
  const data = pick(random, [
    none,
    random.bytes(random.below(100)),
    handshake.encodeInfoRequest({ name, wanted }),
    handshake.encodeMetaContextRequest({ name, queries }),
    Buffer.from(name),
  ]);
  // EXPORT_NAME and ABORT end the handshake: seldom.
  const number = 3 + random.below(9);
  const bytes = option(random.below(15) === 0 ? 1 + random.below(2) : number, data);
  if (random.below(30) === 0) bytes.writeUInt32BE(pick(random, lengths), 12);
  return bytes;
}

const lengths = [0, 1, 511, 512, 4096, 65_535, 65_536, 2 ** 17, 2 ** 20 + 1, 2 ** 25, 2 ** 25 + 1];
const longLengths = [...lengths, 2 ** 28, 2 ** 28 + 1, 2 ** 31, 2 ** 32 - 1];

function randomRequest(random: SeededRandom, style: Style): Buffer {
  const extended = style === "extended";
  const number = random.below(30) === 0 ? random.below(2 ** 16) : random.below(8);
  if (number === command.disconnect && random.below(8) > 0) return randomRequest(random, style);
  const isWrite = number === command.write;
  const payload = isWrite ? Buffer.alloc(random.below(9000), random.below(256)) : none;
  let flags = 0;
  while (random.below(3) === 0) flags |= 1 << random.below(random.below(4) === 0 ? 16 : 6);
  if (extended && isWrite) flags |= commandFlag.payloadLength;
  else if (random.below(20) > 0) flags &= ~commandFlag.payloadLength;
  // What a write says that it brings is true, or the rest of the session is read as its payload.
  const lies = random.below(50) === 0;
  const length =
    isWrite && !lies ? payload.length : pick(random, random.below(9) ? lengths : longLengths);
  const request = {
    command: number,
    flags,
    cookieHigh: random.below(2 ** 31),
    cookieLow: random.below(2 ** 31),
    offset: pick(random, [0, 1, 512, 65_536, 2 ** 17 - 512, 2 ** 17, 2 ** 40, 2 ** 53 - 1]),
    length,
  };
  const bytes = Buffer.concat([encodeRequest(request, extended), payload]);
  if (random.below(40) === 0) bytes.fill(0xff, 16, 24); // the largest offset there is
  return bytes;
}

export function pick<T>(random: SeededRandom, from: readonly T[]): T {
  return from[random.below(from.length)] as T;
}
