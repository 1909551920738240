import assert from "node:assert/strict";
import { test } from "node:test";
import { MapNodes } from "../store/map/map-nodes.ts";
import { PointMap } from "../store/map/point-map.ts";
import { Point } from "../store/point.ts";
import { Families, familyOf } from "./history.ts";

const reader = { read: () => Promise.reject(new Error("nothing is stored")) };
const nodes = new MapNodes({ limitBytes: 2 ** 20 }, { reader });

/** Of snapshots, oldest first, each on the one before; `asked` counts how often one's parent was wanted. */
function line(length: number): { points: Point[]; asked: () => number } {
  let asked = 0;
  const points: Point[] = [];
  for (let id = 1; id <= length; id++) {
    const parent = points.at(-1);
    const point = new Point(id, 2 ** 20, new PointMap(nodes));
    Object.defineProperty(point, "parent", {
      get: () => {
        asked++;
        return parent;
      },
    });
    points.push(point);
  }
  return { points, asked: () => asked };
}

test("a family is named by its first point", () => {
  const { points } = line(5);
  const other = new Point(9, 2 ** 20, new PointMap(nodes));
  for (const point of points) assert.equal(familyOf(point), points[0]);
  assert.equal(familyOf(other), other);
});

test("the families of all snapshots in a long line cost one step each, in whatever order", () => {
  const oldestFirst = line(1000);
  const families = new Families();
  for (const point of oldestFirst.points) {
    assert.equal(families.of(point), oldestFirst.points[0]);
  }
  assert.equal(oldestFirst.asked(), 1000);

  const newestFirst = line(1000);
  const others = new Families();
  for (const point of newestFirst.points.toReversed()) {
    assert.equal(others.of(point), newestFirst.points[0]);
  }
  assert.equal(newestFirst.asked(), 1000);
});
