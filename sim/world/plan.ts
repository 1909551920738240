import type { StoreSettings } from "../../src/store/store.ts";
import type { KeepDiscarded } from "../../src/vdi/retention.ts";
import type { Chooser } from "../random.ts";

/** Whether discarded tips may go by themselves: too old, or in the way when the disk is full. */
export function mayGiveUp({ keepDiscarded, roomBytes }: WorldPlan): boolean {
  return keepDiscarded !== undefined || roomBytes !== undefined;
}

/** Everything about a world that is decided before it begins. */
export interface WorldPlan {
  disks: number;
  guests: number;
  actors: number;
  /** Requests that a guest makes in one phase, and at most at the same time. */
  requests: number;
  depth: number;
  /** Of 16 calls so many complete at once, and so many of the others later than the rest. */
  atOnce: number;
  late: number;
  store: Pick<
    StoreSettings,
    "segmentBytesMax" | "syncBytes" | "mapBytesMax" | "maintenance" | "reserveBytes"
  >;
  /** Guests make one in so many of the flushes, and of the FUA writes, that others would make. */
  syncOneIn: number;
  keepDiscarded: KeepDiscarded | undefined;
  /** While the machine runs somebody else fills the disk, and leaves one of these in bytes at a time. */
  roomBytes: number[] | undefined;
  /** Some guests may be clients of Sheepdog. Their disks take more requests, so not in every world. */
  sheepdog: boolean;
}

export function planWorld(chooser: Chooser): WorldPlan {
  const one = <T>(...choices: T[]): T => choices[chooser.below(choices.length)] as T;
  const plan: WorldPlan = {
    disks: 2 + chooser.below(2),
    guests: 3 + chooser.below(3),
    actors: 1 + chooser.below(3),
    requests: 20 + chooser.below(40),
    depth: 1 + chooser.below(8),
    atOnce: one(0, 4, 10, 14),
    late: one(0, 2, 6),
    store: {
      segmentBytesMax: one(32, 64, 128, 512) * 1024,
      syncBytes: one(16, 64, 2 ** 20) * 1024,
      mapBytesMax: one(2 ** 18, 2 ** 26),
      maintenance: {
        dirtyBytesMax: one(2 ** 16, 2 ** 26),
        appendedBytesMax: one(2 ** 17, 2 ** 20, 2 ** 29),
        recordsMax: one(5, 20, 1000),
        slackBytes: one(0, 2 ** 17, 2 ** 20),
        usedFactorBusy: one(1.25, 2),
        intervalMs: one(5, 50, 250),
      },
    },
    keepDiscarded: one(undefined, undefined, { ageMs: 200, share: 1 }),
    roomBytes: undefined,
    syncOneIn: 1,
    sheepdog: false,
  };
  if (chooser.below(4) === 0) {
    plan.roomBytes = one([0, 2 ** 16, 2 ** 18], [2 ** 17, 2 ** 19, 2 ** 20]);
    plan.store.reserveBytes = one(0, 2 ** 14, 2 ** 17);
  }
  plan.syncOneIn = one(1, 1, 4, 16);
  plan.sheepdog = chooser.below(4) === 0;
  return plan;
}
