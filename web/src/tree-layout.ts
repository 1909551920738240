/** A point of a history, as far as drawing it goes. */
export interface TreePoint {
  id: number;
  /** Null for the first of a family; what is not in the list counts as that. */
  parent: number | null;
  /** Along one line go snapshots of one name. */
  name: string;
  /** The end of a line, which can be written. */
  isTip: boolean;
}

export interface Placed<P extends TreePoint> {
  point: P;
  /** Along the line, and how far down. Whole numbers. */
  column: number;
  lane: number;
  parent: Placed<P> | undefined;
  /** It is the only one that hangs from its parent, straight below it. */
  isBelow: boolean;
  children: Placed<P>[];
}

export interface Layout<P extends TreePoint> {
  placed: Placed<P>[];
  columns: number;
  lanes: number;
}

interface Waiting<P extends TreePoint> {
  first: P;
  parent: Placed<P> | undefined;
  isOnly: boolean;
}

/**
 * Places points as a history went: the oldest snapshot of the same disk goes on along the line, everything
 * else hangs below what it stands on.
 *
 *     base <-- snap1 <-- snap2
 *                ^
 *                |
 *           working VDI
 */
export function layOut<P extends TreePoint>(points: readonly P[]): Layout<P> {
  const children = new Map<number, P[]>();
  const ids = new Set(points.map(({ id }) => id));
  const roots: P[] = [];
  for (const point of points.toSorted((a, b) => a.id - b.id)) {
    const { parent } = point;
    if (parent === null || !ids.has(parent)) roots.push(point);
    else children.set(parent, [...(children.get(parent) ?? []), point]);
  }
  const lanes = new Lanes();
  const placed: Placed<P>[] = [];
  // Depth first, without recursion: a thousand branches can hang from each other.
  const waiting: Waiting<P>[] = roots
    .map((first): Waiting<P> => ({ first, parent: undefined, isOnly: false }))
    .reverse();
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const line = lineFrom(next.first, children);
    const column = next.parent === undefined ? 0 : next.parent.column + (next.isOnly ? 0 : 1);
    const above = next.parent?.lane ?? -1;
    const from = next.parent?.column ?? 0;
    const lane = lanes.take({ from, to: column + line.length - 1, above });
    let before = next.parent;
    const stops = line.map((point, index): Placed<P> => {
      const isBelow = index === 0 && next.isOnly;
      const stop = { point, column: column + index, lane, parent: before, isBelow, children: [] };
      before?.children.push(stop);
      before = stop;
      return stop;
    });
    placed.push(...stops);
    // The last on the stack is the next: what stands furthest to the right is placed first.
    stops.forEach((stop, index) => {
      const hanging = (children.get(stop.point.id) ?? []).filter((c) => c !== line[index + 1]);
      const isOnly = hanging.length === 1;
      for (const first of hanging.reverse()) waiting.push({ first, parent: stop, isOnly });
    });
  }
  return {
    placed,
    columns: Math.max(0, ...placed.map(({ column }) => column + 1)),
    lanes: lanes.count,
  };
}

function lineFrom<P extends TreePoint>(first: P, children: Map<number, P[]>): P[] {
  const line = [first];
  for (let last: P | undefined = first; last !== undefined; ) {
    const next: P | undefined = continuation(last, children.get(last.id) ?? []);
    if (next !== undefined) line.push(next);
    last = next;
  }
  return line;
}

function continuation<P extends TreePoint>(point: P, children: readonly P[]): P | undefined {
  const rank = (child: P) => (child.name === point.name ? 0 : 2) + (child.isTip ? 1 : 0);
  return children.toSorted((a, b) => rank(a) - rank(b) || a.id - b.id)[0];
}

/** Which columns of each lane are taken. */
class Lanes {
  readonly #taken: { from: number; to: number }[][] = [];
  /** Nothing is free above this lane for what hangs from the same place. */
  readonly #hints = new Map<string, number>();

  get count(): number {
    return this.#taken.length;
  }

  /** The first lane below `above` where these columns are free. */
  take({ from, to, above }: { from: number; to: number; above: number }): number {
    const key = `${above} ${from}`;
    let lane = this.#hints.get(key) ?? above + 1;
    while (this.#taken[lane]?.some((other) => other.from <= to && from <= other.to)) lane++;
    while (this.#taken.length <= lane) this.#taken.push([]);
    this.#taken[lane]?.push({ from, to });
    this.#hints.set(key, lane + 1);
    return lane;
  }
}
