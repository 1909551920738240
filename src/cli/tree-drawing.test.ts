import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { VdiEntry } from "../control/calls.ts";
import type { TreeNode } from "../control/tree.ts";
import { drawTree } from "./tree-drawing.ts";

/** A snapshot, or with an empty tag a working VDI; points are numbered from the root down. */
function node(name: string, tag: string, ...children: TreeNode[]): TreeNode {
  const entry: VdiEntry = {
    name,
    kind: tag === "" ? "working" : "snapshot",
    snapId: 7,
    tag: tag === "#7" ? "" : tag,
    point: 0,
    parent: null,
    family: 1,
    sizeBytes: 0,
    mappedBytes: 0,
    exclusiveBytes: 0,
    sharedBytes: 0,
    createdMs: 0,
    clone: false,
    clients: 0,
  };
  return { entry, children };
}

function draw(root: TreeNode, columns = 100): string {
  let point = 0;
  const number = (each: TreeNode): void => {
    each.entry.point = ++point;
    each.children.forEach(number);
  };
  number(root);
  return `\n${drawTree(root, columns).join("\n")}\n`;
}

const disk = (tag: string, ...children: TreeNode[]): TreeNode => node("disk1", tag, ...children);

test("two snapshots and a rollback to the first look as the design draws them", () => {
  const drawn = draw(disk("base", disk("snap1", disk("snap2"), disk(""))));
  assert.equal(
    drawn,
    `
base <-- snap1 <-- snap2
           ^
           |
 disk1 (you are here)
`,
  );
});

test("a history without branches is one line, and a snapshot without a tag shows its id", () => {
  assert.equal(draw(disk("")), "\ndisk1 (you are here)\n");
  assert.equal(draw(disk("a", disk("#7", disk("")))), "\na <-- #7 <-- disk1 (you are here)\n");
});

test("several branches of one snapshot hang from one trunk, clones by their names", () => {
  const drawn = draw(
    disk("base", disk("snap1"), node("c1", "x", node("c1", "")), node("c2", ""), disk("")),
  );
  assert.equal(
    drawn,
    `
        base <-- snap1
          ^
          |
          |-- c1@x <-- c1 (you are here)
          |
          |-- c2 (you are here)
          |
disk1 (you are here)
`,
  );
});

test("branches of several snapshots do not cross", () => {
  const drawn = draw(
    disk("a", node("long-name", ""), disk("b", disk("c", disk("")), node("z", ""))),
  );
  assert.equal(
    drawn,
    `
            a <------ b <-- c <-- disk1 (you are here)
            ^         ^
            |         |
            | z (you are here)
            |
long-name (you are here)
`,
  );
});

test("a thousand snapshots fit the terminal; what is left out is counted", () => {
  let root = disk("");
  for (let index = 1000; index > 0; index--) root = disk(`s${index}`, root);
  assert.equal(draw(root, 80), "\ns1 <-- … 998 more … <-- s1000 <-- disk1 (you are here)\n");
});

test("a history with many branches goes down the page when it is too wide to go along it", () => {
  const root = disk("a", disk("x", disk("y")), disk("b", disk("c", disk("")), node("c1", "")));
  assert.equal(
    draw(root, 30),
    `
a
^
|-- b
|   ^
|   |-- c1 (you are here)
|   |
|   c
|   ^
|   |
|   disk1 (you are here)
|
x
^
|
y
`,
  );
});

test("names cannot play with the terminal", () => {
  assert.equal(draw(node("a\x1b[2J", "")), "\na\\x1b[2J (you are here)\n");
});

test("whatever the history, every point is drawn once and no text overwrites another", () => {
  let count = 0;
  const tree = (depth: number): fc.Arbitrary<TreeNode> => {
    const children = depth === 0 ? fc.constant([]) : fc.array(tree(depth - 1), { maxLength: 3 });
    return fc
      .tuple(children, fc.integer({ min: 1, max: 12 }), fc.boolean())
      .map(([below, width, clone]) => {
        const tag = `<${"x".repeat(width)}${count++}>`;
        return node(clone ? "other" : "disk1", tag, ...below);
      });
  };
  fc.assert(
    fc.property(tree(4), (root) => {
      const drawn = draw(root, Number.POSITIVE_INFINITY);
      const tags: string[] = [];
      const collect = (each: TreeNode): void => {
        tags.push(each.entry.tag);
        each.children.forEach(collect);
      };
      collect(root);
      const seen = drawn.match(/<x+\d+>/g) ?? [];
      assert.deepEqual(seen.sort(), tags.sort(), drawn);
    }),
    { numRuns: 200 },
  );
});
