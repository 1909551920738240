import assert from "node:assert/strict";
import type { LocalStore } from "../../src/control/local-store.ts";

export const blockBytes = 4096;

/**
 * Where the cases write: in the first chunk of the map, and around the end of it. What a disk does
 * not have of it is left out.
 */
const probedRuns = [
  { first: 0, count: 16 },
  { first: 1022, count: 4 },
];

/** The disk whose contents may be behind what is asked for, because they are not flushed. */
export const looseName = "w";

/** Everything a user can see of a store. The same text means that it is the same. */
export interface VisibleState {
  /** Names, snapshots, discarded tips: one line each, with what they hold. */
  structure: string;
  /** What the working VDI `looseName` holds; "" if there is none. */
  loose: string;
}

export function textOf({ structure, loose }: VisibleState): string {
  return loose === "" ? structure : `${structure}\n${looseName} holds ${loose}`;
}

/** Reads every probed block of every point that can be seen, brought back or rolled back to. */
export async function visibleState({ control, vdis }: LocalStore): Promise<VisibleState> {
  const entries = await control.call("vdi.list", {});
  const nameOf = new Map(entries.map(({ point, name, snapId }) => [point, `${name}#${snapId}`]));
  const lines: string[] = [];
  let loose = "";
  for (const entry of entries) {
    const { name, kind, snapId, tag, sizeBytes, parent, clone, point } = entry;
    const on = parent === null ? "" : ` on ${nameOf.get(parent) ?? "what nobody sees"}`;
    const what = `${name}#${snapId} ${kind} ${tag} ${sizeBytes} B${on}${clone ? " clone" : ""}`;
    const holds = await contentOf(vdis, point);
    const isLoose = name === looseName && kind === "working";
    if (isLoose) loose = holds;
    lines.push(isLoose ? what : `${what} holds ${holds}`);
  }
  for (const { name, point, why, sizeBytes } of await control.call("vdi.discarded", {})) {
    const holds = await contentOf(vdis, point);
    lines.push(`${name} discarded by ${why} ${sizeBytes} B holds ${holds}`);
  }
  return { structure: lines.join("\n"), loose };
}

/** "3=17 4=18": block 3 is made of the number 17. Holes and zeros are left out. */
async function contentOf(vdis: LocalStore["vdis"], pointId: number): Promise<string> {
  const point = vdis.store.point(pointId);
  const end = Math.ceil(point.sizeBytes / blockBytes);
  const found: string[] = [];
  for (const run of probedRuns) {
    const count = Math.min(run.count, end - run.first);
    if (count <= 0) continue;
    const target = Buffer.alloc(count * blockBytes, 0xee);
    await vdis.store.read(point, { target, first: run.first });
    for (let at = 0; at < count; at++) {
      const block = target.subarray(at * blockBytes, (at + 1) * blockBytes);
      const number = numberOf(block, run.first + at);
      if (number !== 0) found.push(`${run.first + at}=${number}`);
    }
  }
  return found.join(" ") || "nothing";
}

export function filledBlock(number: number): Buffer {
  const pattern = Buffer.alloc(4);
  pattern.writeUInt32LE(number);
  return Buffer.alloc(blockBytes, pattern);
}

function numberOf(block: Buffer, at: number): number {
  const number = block.readUInt32LE(0);
  // The block is equal to itself, one number further on.
  const isUniform = block.subarray(4).equals(block.subarray(0, blockBytes - 4));
  assert.ok(isUniform, `block ${at} is a mixture`);
  return number;
}

/** Asks `store.check`, which reads every block of every point, and fails if it finds damage. */
export async function assertUndamaged({ control }: LocalStore): Promise<void> {
  const { findings } = await control.call("store.check", {});
  const damage = findings.filter(({ severity }) => severity === "damage");
  assert.deepEqual(damage, []);
}

/** After cleaning nothing may be left that nobody needs, and all counts must be right. */
export async function assertNothingLeaks({ control }: LocalStore): Promise<void> {
  await control.call("store.clean", {});
  const { findings } = await control.call("store.check", {});
  const bad = findings.filter(({ severity }) => severity !== "note");
  assert.deepEqual(bad, []);
}
