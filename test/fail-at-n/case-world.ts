import type { CallInput, CallName, CallOutput } from "../../src/control/calls.ts";
import { type LocalStore, openLocalStore } from "../../src/control/local-store.ts";
import type { Host } from "../../src/host/host.ts";
import { blockBytes, filledBlock, looseName } from "../crash-points/visible-state.ts";

/** Small enough that a few writes fill a segment. */
const segmentBytesMax = 64 * 1024;
/** Two chunks of the map, the second hardly begun. */
export const looseBytes = 4 * 2 ** 20 + 64 * 1024;
export const smallBytes = 64 * 1024;

export function openCaseStore(host: Host, create = false): Promise<LocalStore> {
  return openLocalStore({ directory: "/store", create, segmentBytesMax }, { host });
}

/** An open store, and short words for what is done to it. */
export class CaseWorld {
  readonly store: LocalStore;

  constructor(store: LocalStore) {
    this.store = store;
  }

  call<N extends CallName>(name: N, input: CallInput<N>): Promise<CallOutput<N>> {
    return this.store.control.call(name, input);
  }

  async write(name: string, block: number, number: number): Promise<void> {
    await this.store.vdis.volume(name).write([filledBlock(number)], block * blockBytes);
  }

  async trim(name: string, block: number): Promise<void> {
    await this.store.vdis.volume(name).trim(block * blockBytes, blockBytes);
  }

  async flush(name: string): Promise<void> {
    await this.store.vdis.volume(name).flush();
  }
}

/**
 * What the cases begin with, durable:
 *
 *   w#1 "one" <- w#2 "two"        w is rolled back to "one"; its tip that stood on "two" is discarded
 *             <- w, c (a clone)   d is deleted, and discarded
 */
export async function makeFamily(world: CaseWorld): Promise<void> {
  const w = looseName;
  await world.call("vdi.create", { name: w, sizeBytes: looseBytes });
  for (const block of [0, 1, 2, 3, 1023, 1024]) await world.write(w, block, 100 + block);
  await world.call("vdi.snapshot", { names: [w], tag: "one" });
  for (const block of [2, 3, 4, 1024]) await world.write(w, block, 200 + block);
  await world.call("vdi.snapshot", { names: [w], tag: "two" });
  await world.write(w, 5, 305);
  await world.call("vdi.clone", { source: w, snapshot: "one", name: "c" });
  for (const block of [0, 9]) await world.write("c", block, 400 + block);
  await world.flush("c");
  await world.call("vdi.create", { name: "d", sizeBytes: smallBytes });
  await world.write("d", 1, 501);
  await world.call("vdi.delete", { name: "d" });
  await world.call("vdi.rollback", { names: [w], snapshot: "one" });
  for (const block of [6, 1024]) await world.write(w, block, 600 + block);
  await world.flush(w);
}
