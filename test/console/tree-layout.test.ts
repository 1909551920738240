import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { layOut, type TreePoint } from "../../web/src/tree-layout.ts";

const point = (id: number, parent: number | null, more: Partial<TreePoint> = {}): TreePoint => ({
  id,
  parent,
  name: "disk1",
  isTip: false,
  ...more,
});

/** "label: column,lane" of each point. */
function placesOf(points: TreePoint[]): Record<number, string> {
  return Object.fromEntries(
    layOut(points).placed.map(({ point: { id }, column, lane }) => [id, `${column},${lane}`]),
  );
}

test("a rolled back disk hangs below its snapshot, and newer snapshots go on beside it", () => {
  const points = [point(1, null), point(2, 1), point(3, 2), point(4, 2, { isTip: true })];
  assert.deepEqual(placesOf(points), { 1: "0,0", 2: "1,0", 3: "2,0", 4: "1,1" });
});

test("the working VDI is the end of the line if nothing else is, and clones hang below", () => {
  const points = [
    point(1, null),
    point(2, 1, { isTip: true }),
    point(3, 1, { name: "a", isTip: true }),
    point(4, 1, { name: "b", isTip: true }),
  ];
  const { placed } = layOut(points);
  assert.deepEqual(placesOf(points), { 1: "0,0", 2: "1,0", 3: "1,1", 4: "1,2" });
  assert.ok(
    placed.every(({ isBelow }) => !isBelow),
    "several do not fit straight below",
  );
});

test("what stands on something that is not there begins a line of its own", () => {
  assert.deepEqual(placesOf([point(7, 3), point(9, null)]), { 7: "0,0", 9: "0,1" });
});

test("a thousand points in a line, or nested, take one lane or their own", () => {
  const line = Array.from({ length: 1000 }, (_, at) => point(at + 1, at === 0 ? null : at));
  const drawn = layOut(line);
  assert.deepEqual([drawn.columns, drawn.lanes, drawn.placed.length], [1000, 1, 1000]);
  // Each rollback goes to the newest snapshot but one, and takes another: branches in branches.
  const nested = Array.from({ length: 2000 }, (_, at) => {
    return point(at + 1, at === 0 ? null : Math.max(1, at - 1));
  });
  assert.equal(layOut(nested).placed.length, 2000);
});

/** Any forest: each point stands on an earlier one, or on nothing. */
const forest = fc
  .array(fc.tuple(fc.nat(), fc.boolean(), fc.constantFrom("a", "b")), { maxLength: 60 })
  .map((rows) =>
    rows.map(([on, isTip, name], at) => {
      const parent = at === 0 || on % (at + 1) === at ? null : (on % at) + 1;
      return point(at + 1, parent, { isTip, name });
    }),
  );

test("no two points stand in one place, and everything is right of or below its parent", () => {
  fc.assert(
    fc.property(forest, (points) => {
      const { placed, columns, lanes } = layOut(points);
      assert.deepEqual(
        placed.map(({ point: { id } }) => id).toSorted((a, b) => a - b),
        points.map(({ id }) => id),
      );
      const places = new Set(placed.map(({ column, lane }) => `${column},${lane}`));
      assert.equal(places.size, placed.length);
      for (const { column, lane, parent, isBelow } of placed) {
        assert.ok(column < columns && lane < lanes);
        if (parent === undefined) continue;
        if (isBelow) assert.ok(column === parent.column && lane > parent.lane);
        else assert.ok(column > parent.column && lane >= parent.lane);
      }
    }),
    { numRuns: 300 },
  );
});
