import assert from "node:assert/strict";
import { test } from "node:test";
import type { SeededRandom } from "../../sim/random.ts";
import { closeMs, handshakeMs } from "../../src/nbd/limits.ts";
import type { HeaderStyle } from "../../src/nbd/wire-transmission.ts";
import { MemoryNet } from "../support/memory-net.ts";
import { address, serve, settle } from "../support/raw-nbd.ts";
import { isSoak } from "../support/soak.ts";
import { countAllocations } from "./allocations.ts";
import { type ClientKind, ClientScript } from "./client-script.ts";
import { EvilServer } from "./evil-server.ts";
import { fuzz } from "./fuzz.ts";
import { FuzzedPeer, type Turn } from "./fuzzed-peer.ts";
import { pick } from "./generated-requests.ts";
import { mutate } from "./mutate.ts";
import { recordedDisk } from "./sessions.ts";

/** A block status of the longest kind that the protocol has, or an option's longest reply. */
const allocationBytesMax = 2 ** 24 + 8;
const kinds = ["simple", "structured", "extended", "list"] as const;

/** What our own server says to the script, and what the script makes of it. */
async function record(kind: ClientKind): Promise<{ turns: Turn[]; outcomes: string[] }> {
  const served = await serve({ disk: await recordedDisk(), other: await recordedDisk() });
  const net = new MemoryNet();
  const turns: Turn[] = [];
  await net.listen(address, async (client) => {
    const server = await served.net.connect(address);
    let heardBytes = 0;
    client.start({
      data(chunk) {
        heardBytes += chunk.length;
        server.write([chunk]);
        client.release(chunk, chunk.length);
      },
      drain() {},
      close: () => server.destroy(),
    });
    server.start({
      data(chunk) {
        turns.push({ heardBytes, bytes: Buffer.from(chunk) });
        client.write([chunk]);
        server.release(chunk, chunk.length);
      },
      drain() {},
      close: () => client.end(),
    });
  });
  const script = new ClientScript();
  await script.run(kind, net);
  await served.stop();
  return { turns, outcomes: script.outcomes };
}

/** What the script makes of a server that says this. It must come to an end. */
async function answered(kind: ClientKind, turns: readonly Turn[]): Promise<string[]> {
  const net = new MemoryNet();
  const script = new ClientScript();
  await net.listen(address, async (connection) => {
    const peer = new FuzzedPeer(connection);
    await peer.play(turns);
    await peer.leave();
  });
  await ended(script, script.run(kind, net));
  return script.outcomes;
}

/** The handshake has its time limit, and so has the end; in between the connection is lost at last. */
async function ended(script: ClientScript, running: Promise<void>): Promise<void> {
  let failure: unknown;
  running.catch((error) => {
    failure = error;
  });
  for (let turn = 0; turn < 50 && !script.isDone && failure === undefined; turn++) {
    await settle();
    if (turn > 25) script.timers.advance(handshakeMs + closeMs);
  }
  if (failure !== undefined) throw failure;
  assert.ok(script.isDone, `the client hangs: ${script.outcomes.at(-1)}`);
  assert.ok(!script.outcomes.includes("has not ended"));
  await settle();
  assert.equal(script.timers.pending, 0);
}

const recordings = new Map(
  await Promise.all(kinds.map(async (kind) => [kind, await record(kind)] as const)),
);
const recorded = (kind: ClientKind) => recordings.get(kind) ?? { turns: [], outcomes: [] };
const donors = [...recordings.values()].flatMap(({ turns }) => turns.map(({ bytes }) => bytes));

for (const kind of kinds) {
  const { turns, outcomes } = recorded(kind);
  const step = isSoak ? 1 : 11;

  test(`${kind}: wherever the server's words are cut in two, they mean the same`, async () => {
    assert.ok(!outcomes.some((outcome) => outcome.startsWith("failed")), "it went well");
    for (const [index, { heardBytes, bytes }] of turns.entries()) {
      for (let at = 1; at < bytes.length; at += step) {
        const cut = [
          ...turns.slice(0, index),
          { heardBytes, bytes: bytes.subarray(0, at) },
          { heardBytes, bytes: bytes.subarray(at) },
          ...turns.slice(index + 1),
        ];
        assert.deepEqual(await answered(kind, cut), outcomes, `turn ${index} cut at ${at}`);
      }
    }
  });

  test(`${kind}: wherever the server's words end, the client does not hang`, async () => {
    for (const [index, { heardBytes, bytes }] of turns.entries()) {
      for (let at = 0; at < bytes.length; at += step) {
        const ending = [...turns.slice(0, index), { heardBytes, bytes: bytes.subarray(0, at) }];
        const found = await answered(kind, ending);
        const failed = found.findIndex((outcome) => outcome.startsWith("failed"));
        assert.deepEqual(found.slice(0, failed), outcomes.slice(0, failed));
      }
    }
  });
}

fuzz("an NBD client and a recorded server with changes", { runs: 600 }, async (random, tally) => {
  const kind = pick(random, kinds);
  const { turns, outcomes } = recorded(kind);
  const chosen = random.below(turns.length);
  const changed = turns.map((turn, index) =>
    index === chosen ? { ...turn, bytes: mutate(turn.bytes, random, donors) } : turn,
  );
  const { result, largestBytes } = await countAllocations(() => answered(kind, changed));
  assert.ok(largestBytes <= allocationBytesMax, `${largestBytes} bytes were asked for at once`);
  const same = result.filter((outcome, index) => outcome === outcomes[index]).length;
  tally("answers as without changes", same);
  tally("other answers", result.length - same);
});

fuzz("an NBD client and an invented server", { runs: 600 }, async (random, tally) => {
  const style: HeaderStyle = pick(random, ["simple", "structured", "extended"] as const);
  const { result, largestBytes } = await countAllocations(() => withEvilServer(random, style));
  assert.ok(largestBytes <= allocationBytesMax, `${largestBytes} bytes were asked for at once`);
  const failed = result.filter((outcome) => outcome.startsWith("failed")).length;
  tally("steps that failed", failed);
  tally("that did not", result.length - failed);
});

async function withEvilServer(random: SeededRandom, style: HeaderStyle): Promise<string[]> {
  const net = new MemoryNet({ chunkBytesMax: 1 + random.below(5000) });
  const script = new ClientScript();
  const servers: EvilServer[] = [];
  await net.listen(address, (connection) => {
    servers.push(new EvilServer(connection, { random, style }));
  });
  await ended(script, script.run(style, net));
  for (const server of servers) {
    assert.ok(!server.hasFlooded, "the client takes a reply that has no end");
  }
  return script.outcomes;
}
