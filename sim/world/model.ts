import { requestOf, sectorCount, valueAt } from "./content.ts";

/** When something was asked for or answered: moments of a world, in order. */
export type Moment = number;

/** A request that changes sectors of a tip. */
export interface Change {
  /** Number of the request, by which what it wrote is known; 0 for one that makes zeros. */
  request: number;
  /** The sectors it changes, from index to index. */
  from: number;
  to: number;
  asked: Moment;
  /** `Infinity` if it was not answered, or with a failure: then it may have happened, whenever. */
  answered: Moment;
  /** All of it happens at one moment. */
  isWhole: boolean;
  /** It may have reached another tip: the disk was being moved to that. */
  isShared?: boolean;
}

/**
 * What a working VDI, or one that was discarded, may hold. What is asked for before something else is
 * answered may come before or after it; what is asked for later comes after.
 */
export class ModelTip {
  /** What it held when its history here began; durable. */
  base: Uint32Array;
  changes: Change[] = [];
  /** All that was answered before is durable. */
  durableBefore: Moment = 0;
  /** Changes that are durable whatever their answers say. */
  readonly durable = new Set<Change>();
  /** How many of the sectors it has. */
  sectors: number;

  constructor(base: Uint32Array, sectors: number) {
    this.base = base;
    this.sectors = sectors;
  }

  /** A cut is durable: a snapshot of it is there. */
  keep(cut: Cut, at: number): void {
    this.durableBefore = Math.max(this.durableBefore, cut.moment);
    for (const change of cut.seen[at] ?? []) if (change.isWhole) this.durable.add(change);
  }

  /** It holds this, durably, and nothing is under way. */
  settle(found: Uint32Array): void {
    const base = new Uint32Array(sectorCount);
    base.set(found);
    this.base = base;
    this.changes = [];
    this.durable.clear();
    this.durableBefore = 0;
  }
}

/** One tip, and what was found to be its content. */
export interface Finding {
  name: string;
  tip: ModelTip;
  values: Uint32Array;
  /** All that was answered before must be there; and nothing that was asked for after `before`. */
  after: Moment;
  before: Moment;
  /** It is what a machine came up with: what is durable is there. */
  isAfterCrash: boolean;
}

/** A cut through the histories of some tips: what is before it. */
export interface Cut {
  moment: Moment;
  /** Per finding: changes that were seen, whatever their answers say. */
  seen: Set<Change>[];
}

/**
 * Finds the moment at which the tips held what was found, all of them the same one. Throws if there is
 * none.
 *
 * A cut contains a change if it was seen, or was answered before one in the cut was asked for. The
 * smallest cut that explains each sector is looked for; a larger one only forbids more.
 */
export function findCut(findings: readonly Finding[]): Cut {
  let moment = 0;
  for (const { after } of findings) moment = Math.max(moment, after);
  for (;;) {
    const seen = findings.map((finding) => explain(finding, moment));
    let latest = moment;
    for (const changes of seen) {
      for (const { asked } of changes) latest = Math.max(latest, asked);
    }
    if (latest === moment) return { moment, seen };
    moment = latest;
  }
}

/** What each sector may go back to, given that all answered before `moment` is there. */
function explain(finding: Finding, moment: Moment): Set<Change> {
  const { tip, values, before } = finding;
  const changes = tip.changes.filter(({ asked }) => asked < before);
  const seen = new Set<Change>(finding.isAfterCrash ? tip.durable : []);
  for (;;) {
    const size = seen.size;
    for (let index = 0; index < values.length; index++) {
      const source = sourceOf(finding, { index, changes, seen, moment });
      if (source !== undefined) seen.add(source);
    }
    // A change that was seen in one sector is there in its others.
    if (seen.size === size) return seen;
  }
}

/** The earliest change that explains a sector; undefined for what was there before all of them. */
function sourceOf(
  finding: Finding,
  at: { index: number; changes: Change[]; seen: Set<Change>; moment: Moment },
): Change | undefined {
  const { tip, values, name } = finding;
  const { index, changes, seen, moment } = at;
  const value = values[index] as number;
  let latest = 0;
  let latestChange: Change | undefined;
  for (const change of changes) {
    if (index < change.from || index >= change.to) continue;
    const isThere =
      change.answered < moment ||
      (finding.isAfterCrash && tip.durable.has(change)) ||
      (seen.has(change) && change.isWhole);
    if (isThere && change.asked > latest) {
      latest = change.asked;
      latestChange = change;
    }
  }
  if (tip.base[index] === value && latest === 0) return undefined;
  for (const change of changes) {
    if (index < change.from || index >= change.to) continue;
    const holds = change.request === 0 ? 0 : valueAt(change.request, index);
    if (holds === value && change.answered >= latest) return change;
  }
  const of = value === 0 ? "zeros" : `request ${requestOf(value)}`;
  const missing =
    latestChange === undefined
      ? "which never were there"
      : `but request ${latestChange.request} (asked ${latestChange.asked}, ` +
        `answered ${latestChange.answered}) must be there at ${moment}`;
  throw new Error(`${name}: sector ${index} holds ${of}, ${missing}`);
}

/** Throws if a read of sectors from index `from` could not find these values. */
export function checkRead(
  tip: ModelTip,
  found: { values: Uint32Array; from: number; asked: Moment; answered: Moment },
): void {
  const { values, from, asked, answered } = found;
  const changes = tip.changes.filter((change) => change.asked < answered);
  for (let at = 0; at < values.length; at++) {
    const index = from + at;
    const value = values[at] as number;
    let latest = 0;
    for (const change of changes) {
      if (index < change.from || index >= change.to) continue;
      if (change.answered < asked) latest = Math.max(latest, change.asked);
    }
    if (latest === 0 && tip.base[index] === value) continue;
    const isExplained = changes.some(
      (change) =>
        index >= change.from &&
        index < change.to &&
        change.answered >= latest &&
        (change.request === 0 ? 0 : valueAt(change.request, index)) === value,
    );
    if (!isExplained) {
      throw new Error(
        `a read finds request ${requestOf(value)} in sector ${index}, which is older`,
      );
    }
  }
}
