import { assert } from "../base/assert.ts";
import { KelpieError } from "../base/errors.ts";
import type { Catalog } from "./catalog.ts";
import type { PointChange } from "./formats/catalog-record.ts";
import type { LogWriter } from "./log/log-writer.ts";
import type { Point } from "./point.ts";
import type { Purger } from "./purge.ts";
import type { StoreState } from "./state.ts";
import type { Tip } from "./tip.ts";
import type { LogUpload } from "./upload/log-upload.ts";
import type { PendingPoints } from "./upload/pending-points.ts";

export interface BranchComponents {
  state: StoreState;
  catalog: Catalog;
  purger: Purger;
  /** Of a store in an object store: snapshots that are not there yet. */
  pending: PendingPoints;
}

export interface SnapshotRequest {
  tip: Tip;
  /** Number for the point that the tip moves on to. */
  id: number;
}

export interface MoveRequest {
  tip: Tip;
  /** A new point on `base`, or a point that is there already and has no children. */
  to:
    | { kind: "new"; id: number; base: Point; sizeBytes: number }
    | { kind: "existing"; point: Point };
}

interface Branch {
  tip: Tip;
  frozen: Point;
  next: Point;
  exclusiveBefore: number;
  pendingCut: { number: number; giveUp: () => void } | undefined;
  /** What the snapshot needs in the object store, if its record does not wait for it. */
  unsent: { upload: LogUpload; place: { segment: number; units: number } } | undefined;
}

/**
 * Freezes the points of all the tips at one moment and moves the tips on to new ones, while they are
 * written. What is written behind the cut belongs to the point that the catalog names: the new one if
 * the record is there, else the old one.
 */
export async function snapshotTips(
  requests: readonly SnapshotRequest[],
  record: { notes: unknown[]; along: readonly PointChange[] },
  components: BranchComponents,
): Promise<void> {
  const { catalog } = components;
  const { branches, changes } = await takeCuts(requests, components);
  const operation = { reverted: false };
  for (const branch of branches) {
    if (branch.pendingCut === undefined) continue;
    branch.pendingCut.giveUp = () => {
      if (!operation.reverted) revert(branches, components);
      operation.reverted = true;
    };
  }
  try {
    // Durability: a snapshot's data is safe before the snapshot exists.
    for (const { tip } of branches) await tip.flush();
    if (operation.reverted)
      throw new KelpieError("io", "the host's disk failed under the snapshot");
    dropPendingCuts(branches);
    await catalog.commit({ changes: [...changes, ...record.along], notes: record.notes });
    for (const { frozen, unsent } of branches) {
      if (unsent !== undefined) components.pending.add(frozen.id, unsent);
    }
  } catch (error) {
    if (!operation.reverted) revert(branches, components);
    // A checkpoint would keep counts in which what was lost is not free, and nobody would free it later.
    await components.purger.settled();
    throw error;
  }
}

async function takeCuts(
  requests: readonly SnapshotRequest[],
  components: BranchComponents,
): Promise<{ branches: Branch[]; changes: PointChange[] }> {
  const logs = requests.map(({ tip }) => tip.log).filter((log) => log !== undefined);
  // All of them stand still before the first cut, so that no answer is sent between two cuts.
  await Promise.all(logs.map((log) => log.hold()));
  try {
    for (let wait = beingMended(logs); wait !== undefined; wait = beingMended(logs)) await wait;
    const branches: Branch[] = [];
    const changes: PointChange[] = [];
    for (const { tip, id } of requests) {
      const branch = freeze(tip, id, components.state);
      branches.push(branch);
      const { frozen, next } = branch;
      changes.push({ type: "point", id, parent: frozen.id, sizeBytes: next.sizeBytes });
      if (tip.log !== undefined) {
        const from = tip.log.cut();
        const { segment, units } = tip.log.appliedPlace;
        const { upload } = tip.log;
        if (upload !== undefined && tip.flushesLocally) {
          branch.unsent = { upload, place: { segment, units } };
        }
        const after = branch.unsent === undefined ? {} : { after: { segment, units } };
        changes.push({ type: "assign", log: tip.log.log, from, point: id, ...after });
        branch.pendingCut = { number: from, giveUp: () => {} };
        tip.pendingCuts.push(branch.pendingCut);
      }
    }
    return { branches, changes };
  } finally {
    for (const log of logs) log.release();
  }
}

/** To be waited for, and asked for again: what a failed sync makes a log write again is not to be cut. */
export function beingMended(logs: readonly LogWriter[]): Promise<void> | undefined {
  for (const { mended } of logs) if (mended !== undefined) return mended;
  return undefined;
}

function freeze(tip: Tip, id: number, state: StoreState): Branch {
  const frozen = tip.point;
  assert(frozen.children.size === 0, "the tip has children");
  const exclusiveBefore = frozen.exclusiveBlocks;
  const next = state.makePoint(id, frozen.sizeBytes, frozen);
  next.pending = true;
  state.pendingPoints.set(id, next);
  tip.point = next;
  return { tip, frozen, next, exclusiveBefore, pendingCut: undefined, unsent: undefined };
}

function dropPendingCuts(branches: readonly Branch[]): void {
  for (const { tip, pendingCut } of branches) {
    const at = pendingCut === undefined ? -1 : tip.pendingCuts.indexOf(pendingCut);
    if (at >= 0) tip.pendingCuts.splice(at, 1);
  }
}

/** The snapshot does not exist: the old point takes back what was written behind the cut. */
function revert(branches: readonly Branch[], components: BranchComponents): void {
  const { state, purger } = components;
  dropPendingCuts(branches);
  for (const { tip, frozen, next, exclusiveBefore } of branches) {
    state.pendingPoints.delete(next.id);
    next.detach();
    const old = frozen.map;
    frozen.map = next.map;
    frozen.mappedBlocks = next.mappedBlocks;
    frozen.exclusiveBlocks = exclusiveBefore + next.exclusiveBlocks;
    next.heir = frozen;
    tip.point = frozen;
    // Blocks of its own that were overwritten behind the cut are needed by nobody now.
    purger.freeLost(frozen, old.share());
  }
}

/**
 * Moves tips to other points: a rollback, or its undoing. Nothing may be written meanwhile: who calls it
 * has stopped admission and drained what was received.
 */
export async function moveTips(
  requests: readonly MoveRequest[],
  notes: unknown[],
  components: BranchComponents,
): Promise<void> {
  const { state, catalog } = components;
  const logs = requests.map(({ tip }) => tip.log).filter((log) => log !== undefined);
  await Promise.all(logs.map((log) => log.hold()));
  try {
    // Nothing of the old tip may be unsynced: a sync that fails later writes its data again, into
    // segments that belong to the new one.
    for (const { tip } of requests) await tip.flush();
    for (let wait = beingMended(logs); wait !== undefined; wait = beingMended(logs)) await wait;
    const changes: PointChange[] = [];
    for (const { tip, to } of requests) {
      const id = to.kind === "new" ? to.id : to.point.id;
      if (to.kind === "new") {
        const { base, sizeBytes } = to;
        changes.push({ type: "point", id, parent: base.id, sizeBytes });
      }
      if (tip.log !== undefined) {
        changes.push({ type: "assign", log: tip.log.log, from: tip.log.cut(), point: id });
      }
    }
    await catalog.commit({ changes, notes });
    for (const { tip, to } of requests) {
      tip.point = to.kind === "new" ? state.point(to.id) : to.point;
    }
  } finally {
    for (const log of logs) log.release();
  }
}
