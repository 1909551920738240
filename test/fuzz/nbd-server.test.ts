import assert from "node:assert/strict";
import { test } from "node:test";
import type { SeededRandom } from "../../sim/random.ts";
import { handshakeMs, payloadBytesMax } from "../../src/nbd/limits.ts";
import { isSoak } from "../support/soak.ts";
import { countAllocations } from "./allocations.ts";
import { fuzz } from "./fuzz.ts";
import type { Turn } from "./fuzzed-peer.ts";
import { FuzzedServer } from "./fuzzed-server.ts";
import { randomTurns } from "./generated-requests.ts";
import { mutate } from "./mutate.ts";
import { recordedSessions, type Session, saidIn } from "./sessions.ts";

const sessions = recordedSessions();
const donors = sessions.map(saidIn);
/** Room for the longest reply there is, and its header, comes in powers of two. */
const allocationBytesMax = 2 * payloadBytesMax;

/** What the server says to all of it. */
async function answersTo(turns: readonly Turn[]): Promise<Buffer> {
  const server = await FuzzedServer.start();
  const client = await server.connect();
  await client.play(turns);
  await client.leave();
  const { heard } = client;
  await server.served.stop();
  return heard;
}

/** The session in two more pieces, cut before the byte `at`. */
function cutAt(session: Session, at: number): Turn[] {
  let position = 0;
  return session.turns.flatMap(({ heardBytes, bytes }) => {
    const within = at - position;
    position += bytes.length;
    if (within <= 0 || within >= bytes.length) return [{ heardBytes, bytes }];
    const [first, second] = [bytes.subarray(0, within), bytes.subarray(within)];
    // The second piece comes when the server has had time to act on the first.
    return [
      { heardBytes, bytes: first },
      { heardBytes: heardBytes + 1, bytes: second },
    ];
  });
}

for (const session of sessions) {
  const said = saidIn(session);
  const step = isSoak ? 1 : 3;

  test(`${session.name}: wherever the session is cut in two, the answers are the same`, async () => {
    const expected = await answersTo(session.turns);
    assert.ok(expected.length > 18, "the server did not answer");
    for (let at = 1; at < said.length; at += step) {
      assert.deepEqual(await answersTo(cutAt(session, at)), expected, `cut at ${at}`);
    }
  });

  test(`${session.name}: wherever the session ends, nothing of it stays`, async () => {
    for (let at = 0; at < said.length; at += step) {
      const server = await FuzzedServer.start();
      const client = await server.connect();
      await client.play([{ heardBytes: 0, bytes: said.subarray(0, at) }]);
      await client.leave();
      await server.checkAfterwards();
    }
  });
}

async function endure(turns: readonly Turn[], random: SeededRandom): Promise<number> {
  const { result, largestBytes } = await countAllocations(async () => {
    const server = await FuzzedServer.start(random);
    const client = await server.connect();
    await client.play(turns);
    // Some stay and say nothing, until their handshake has taken too long.
    if (random.below(4) === 0) server.served.timers.advance(handshakeMs);
    if (random.below(4) === 0) client.connection.destroy();
    else await client.leave();
    await server.checkAfterwards();
    return client.heardBytes;
  });
  assert.ok(largestBytes <= allocationBytesMax, `${largestBytes} bytes were asked for at once`);
  return result;
}

fuzz("an NBD server and recorded sessions with changes", { runs: 1200 }, async (random, tally) => {
  const session = sessions[random.below(sessions.length)] as Session;
  const { turns } = session;
  // Mostly in the lines behind the first: a handshake that fails at once shows little.
  const chosen = random.below(turns.length);
  const changed = turns.map((turn, index) =>
    index === chosen || random.below(turns.length * 2) === 0
      ? { ...turn, bytes: mutate(turn.bytes, random, donors) }
      : turn,
  );
  tally("bytes answered", await endure(changed, random));
});

fuzz("an NBD server and invented requests", { runs: 1200 }, async (random, tally) => {
  const turns = randomTurns(random);
  tally("requests and options", turns.length);
  tally("bytes answered", await endure(turns, random));
});
