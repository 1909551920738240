import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAddress } from "../../src/cli/addresses.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { SheepdogClient } from "../../src/sheepdog/client.ts";
import { result } from "../../src/sheepdog/results.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";

const host = createNodeHost({ logLevel: "silent" });

async function connect({ sheepdog }: ServerProcess): Promise<SheepdogClient> {
  const address = parseAddress(sheepdog);
  assert.ok(address !== "off");
  return await SheepdogClient.connect({ nodes: [address] }, host);
}

test("kelpie vdi lock shows who has what, and breaks it", async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"), ["--lock"]);
  await server.ok("vdi", "create", "a", "4M");
  await server.ok("vdi", "create", "b", "4M");
  await server.ok("vdi", "snapshot", "b", "-s", "before");
  assert.deepEqual(await server.json("vdi", "lock", "list"), []);
  const [one, two] = [await connect(server), await connect(server)];
  await one.lock({ name: "a" });
  await one.lock({ name: "b", tag: "before" });
  const locks = (await server.json("vdi", "lock", "list")) as { owners: string[] }[];
  const owners = locks[0]?.owners ?? [];
  assert.match(owners.join(), /^127\.0\.0\.1:\d+$/);
  assert.deepEqual(locks, [
    { name: "a", snapId: null, tag: "", shared: false, owners },
    { name: "b", snapId: 1, tag: "before", shared: false, owners },
  ]);
  const table = await server.ok("vdi", "lock", "list", "b");
  assert.match(table, /^Name +Id +Tag +Lock +Owner\nb +1 +before +exclusive +127\.0\.0\.1:\d+\n$/);
  await assert.rejects(two.lock({ name: "a" }), { result: result.vdiLocked });
  assert.deepEqual(await server.json("vdi", "lock", "break", "a"), { owners });
  await two.lock({ name: "a" });
  assert.match(await server.ok("vdi", "lock", "break", "b@before"), /^It was locked by 127/);
  const none = await server.cli("vdi", "lock", "break", "b", "-s", "before");
  assert.deepEqual([none.exitCode, /is not locked/.test(none.stderr)], [5, true]);
  assert.equal((await server.cli("vdi", "lock", "list", "nothing")).exitCode, 5);
  await Promise.all([one.close(), two.close()]);
});
