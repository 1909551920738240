import { assert } from "../base/assert.ts";
import { heirOf, type Point } from "./point.ts";

/** Ids below this one are not segments: 0 is a hole, 1 zeros that stay allocated. */
export const firstSegmentId = 2;
export const holeId = 0;
export const zeroId = 1;

/** What is known of a segment in memory. */
export class Segment {
  /** Store-wide; what maps name it by. Never reused. */
  readonly id: number;
  readonly log: number;
  readonly number: number;
  /** The point that wrote it; see `ownerOf` for who answers for it now. */
  owner: Point;
  /** Blocks that were written to it. */
  blocks = 0;
  /** Of those, how many some point still maps. */
  live = 0;
  /** Where the batches of the body as written end. */
  endUnits = 0;
  /** 0: as written; n: rewritten n times without its dead blocks. */
  generation = 0;
  /** Of the current body, on the disk. */
  bytes = 0;
  /** Blocks in the current body. */
  bodyBlocks = 0;
  /** No longer appended to, and complete on the backend. */
  sealed = false;
  /** Its file is not there, though something in it is needed; or damage hides what it holds. */
  missing = false;

  constructor(id: number, place: { log: number; number: number; owner: Point }) {
    this.id = id;
    this.log = place.log;
    this.number = place.number;
    this.owner = place.owner;
  }

  ownerOf(): Point {
    if (this.owner.heir !== undefined) this.owner = heirOf(this.owner);
    return this.owner;
  }
}

/** All segments by id. Lookups are on the path of every read and write. */
export class SegmentTable {
  readonly #byId: (Segment | undefined)[] = [];
  readonly #byPlace = new Map<string, Segment>();
  nextId = firstSegmentId;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get(id: number): Segment | undefined {
    return this.#byId[id];
  }

  at(log: number, number: number): Segment | undefined {
    return this.#byPlace.get(`${log}/${number}`);
  }

  create(place: { log: number; number: number; owner: Point }): Segment {
    const segment = new Segment(this.nextId++, place);
    this.add(segment);
    return segment;
  }

  add(segment: Segment): void {
    assert(this.#byId[segment.id] === undefined, "two segments with one id");
    this.#byId[segment.id] = segment;
    this.#byPlace.set(`${segment.log}/${segment.number}`, segment);
    this.nextId = Math.max(this.nextId, segment.id + 1);
    this.#count++;
  }

  remove(segment: Segment): void {
    assert(this.#byId[segment.id] === segment);
    this.#byId[segment.id] = undefined;
    this.#byPlace.delete(`${segment.log}/${segment.number}`);
    this.#count--;
  }

  /** In the order of their ids. Ids are never used again: among them are more gaps than segments. */
  values(): MapIterator<Segment> {
    return this.#byPlace.values();
  }
}
