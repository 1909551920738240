import assert from "node:assert/strict";
import { isKelpieError } from "../../../src/base/errors.ts";
import type { Net } from "../../../src/host/net.ts";
import type { SheepdogClient } from "../../../src/sheepdog/client.ts";
import { RemoteExports } from "../../../src/sheepdog/client-exports.ts";
import { describePoints } from "../../../src/sheepdog/client-points.ts";
import { RemoteVdis } from "../../../src/sheepdog/client-vdis.ts";
import { type Cut, CutNet } from "./cut-net.ts";
import { mebibyte } from "./sheep-world.ts";

const url = "sheepdog://127.0.0.1:7000";
const someone = { protocol: "nbd", peer: "a test" } as const;

/** A server that is in order, and how it is reached. */
export interface CutOperationWorld {
  net: Net;
  client(net?: Net): Promise<SheepdogClient>;
  /** Called at the cut. */
  onCut?: () => void;
}

const operations: Record<string, (vdis: RemoteVdis) => Promise<unknown>> = {
  create: (vdis) => vdis.create("new", mebibyte),
  clone: (vdis) => vdis.clone("disk", "one", "new"),
  snapshot: (vdis) => vdis.snapshot("disk", "new"),
  rollback: (vdis) => vdis.rollback("disk", "one", true),
  deleteSnapshot: (vdis) => vdis.deleteSnapshot("disk", "one"),
  delete: (vdis) => vdis.delete("disk"),
};

/** What is there after each, as `disk:tag:snapId`. */
const expected: Record<string, string[]> = {
  create: ["disk:one:1", "disk:tip:3", "disk:two:2", "new:tip:1"],
  clone: ["disk:one:1", "disk:tip:3", "disk:two:2", "new:tip:1"],
  snapshot: ["disk:new:3", "disk:one:1", "disk:tip:4", "disk:two:2"],
  rollback: ["disk:one:1", "disk:tip:3", "disk:two:2"],
  deleteSnapshot: ["disk:tip:3", "disk:two:2"],
  delete: ["disk:one:1", "disk:two:2"],
};

/** Operations on disks that `cutOperation` knows. */
export const cutOperationNames = Object.keys(operations);

/** "disk" gets the snapshots "one" and "two", and begins with the bytes 1, 2 and 3 in its three points. */
export async function makeDisks(vdis: RemoteVdis) {
  await vdis.create("disk", 4 * mebibyte);
  const { volume, close } = await vdis.volumes.open("disk");
  await volume.write([filled(2 * mebibyte, 1)], 0);
  await vdis.snapshot("disk", "one");
  await volume.write([filled(512, 2)], 0);
  await vdis.snapshot("disk", "two");
  await volume.write([filled(512, 3)], 0);
  await volume.flush();
  return { volume, close };
}

/**
 * Does an operation on what `makeDisks` made, over a network that is cut once; again if that failed;
 * then it must have happened once. Returns up to `placesMax` places to cut at.
 */
export async function cutOperation(
  name: string,
  world: CutOperationWorld,
  { cut, placesMax = 2 }: { cut?: Cut; placesMax?: number },
): Promise<{ places: Cut[]; cuts: number }> {
  const net = new CutNet(undefined, { net: world.net });
  net.onCut = world.onCut;
  const vdis = new RemoteVdis({ url }, { client: await world.client(net) });
  const before = { ...net.passed };
  if (cut !== undefined) net.cutAfter(cut);
  const when = `${name}, cut ${JSON.stringify(cut)}`;
  const operation = operations[name] ?? assert.fail(`${name} is no operation`);
  try {
    await operation(vdis);
  } catch (error) {
    assert.ok(isKelpieError(error, "io"), `${when}: ${error}`);
    await operation(vdis);
  }
  const { cuts } = net;
  const places = net.placesSince(before, placesMax);
  net.onCut = undefined;
  net.cutAfter({ direction: "out", afterBytes: Number.POSITIVE_INFINITY });
  net.cutAfter({ direction: "in", afterBytes: Number.POSITIVE_INFINITY });
  const points = await describePoints(await world.client());
  const shown = points
    .map(({ name: of, kind, tag, snapId }) => `${of}:${kind === "working" ? "tip" : tag}:${snapId}`)
    .sort();
  assert.deepEqual(shown, expected[name], when);
  const contents: Record<string, number> = { one: 1, two: 2, tip: name === "rollback" ? 1 : 3 };
  const exports = new RemoteExports({ vdis });
  for (const label of shown.filter((text) => text.startsWith("disk")).map((t) => t.split(":")[1])) {
    const opened = await exports.open(label === "tip" ? "disk" : `disk@${label}`, someone);
    const first = new Uint8Array(1);
    await opened.device.read(first, 0);
    assert.equal(first[0], contents[label ?? ""] ?? 3, `${when}: ${label}`);
    const behind = new Uint8Array(1);
    await opened.device.read(behind, mebibyte);
    assert.equal(behind[0], 1, `${when}: ${label}, what all share`);
    await opened.close();
  }
  return { places, cuts };
}

function filled(length: number, byte: number): Uint8Array {
  return new Uint8Array(length).fill(byte);
}
