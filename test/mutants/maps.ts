import type { Mutant } from "./mutant.ts";

const tip = "src/store/tip.ts";
const purge = "src/store/purge.ts";
const branch = "src/store/branch.ts";

/** Maps, snapshots and space: who has which block. */
export const mapMutants: Mutant[] = [
  {
    name: "a snapshot goes on being written",
    file: "src/store/map/point-map.ts",
    find: "  share(): Root {\n    this.#token = this.#nodes.newToken();\n",
    replace: "  share(): Root {\n",
    why: "sharing is only handing out the root",
  },
  {
    name: "the last leaf of a write is not written to the checkpoint",
    file: tip,
    find: "leaf <= last; leaf++",
    replace: "leaf < Math.max(last, Math.floor(slot / leafBlocks) + 1); leaf++",
    why: "off by one: most writes are within one leaf",
  },
  {
    name: "a trim frees the block behind it",
    file: tip,
    find: "    const run = Math.min(end - block, chunkBlocks - slot);\n    zeroInChunk",
    replace: "    const run = Math.min(end - block + 1, chunkBlocks - slot);\n    zeroInChunk",
    why: "off by one",
  },
  {
    name: "a trim of parts of blocks takes the first block whole",
    file: "src/vdi/volume.ts",
    find:
      "    return this.#limited(0, () => {\n" +
      "      const start = Math.ceil(offset / blockBytes) * blockBytes;",
    replace:
      "    return this.#limited(0, () => {\n" +
      "      const start = Math.floor(offset / blockBytes) * blockBytes;",
    why: "rounding the wrong way",
  },
  {
    name: "a zeroing that keeps its allocation is taken for one that has it",
    file: tip,
    find: '        if (kind === "zero" || !this.#isHole(block, count)) {',
    replace: "        if (!this.#isHole(block, count)) {",
    why: "a hole reads as zeros as well",
  },
  {
    name: "a purge forgets clones",
    file: purge,
    find: "if (point.children.size <= 1) return point;",
    replace: "return point;",
    why: "the point is deleted, so it can go",
  },
  {
    name: "a purge takes what the heir has overwritten for what it still has",
    file: purge,
    find: "  return other[slot] === words[slot] && other[positionsAt + slot] === words[positionsAt + slot];",
    replace: "  return true;",
    why: "the heir has a block in that place",
  },
  {
    name: "a purge leaves the child without a parent",
    file: purge,
    find: "      if (parent !== undefined) child.attachTo(parent);\n",
    replace: "",
    why: "the child was detached, and that is all that was tested",
  },
  {
    name: "a purge frees what the heir still has",
    file: purge,
    find: "        if (id < firstSegmentId || holds(inHeir, slot, words)) continue;\n        const segment",
    replace: "        if (id < firstSegmentId) continue;\n        const segment",
    why: "the point is gone, so are its blocks",
  },
  {
    name: "a snapshot that was given up loses what was written behind its cut",
    file: branch,
    find: "    frozen.map = next.map;\n",
    replace: "",
    why: "back to the old point, with its map",
  },
  {
    name: "a rollback keeps the cached map",
    file: branch,
    find: '      tip.point = to.kind === "new" ? state.point(to.id) : to.point;\n',
    replace: '      if (to.kind === "existing") tip.point = to.point;\n',
    why: "the record is the truth, and the tip was thought to follow it",
  },
  {
    name: "a cleaned segment is one that recovery still needs",
    file: "src/store/cleaner.ts",
    find: "      if (this.#components.needsForReplay(segment.log, segment.number)) continue;\n",
    replace: "",
    why: "sealed segments are done with",
  },
  {
    name: "cleaning keeps what was overwritten within its segment",
    file: "src/store/cleaner.ts",
    find: "    return words?.[slot] === segment.id && words[positionsAt + slot] === written.position;",
    replace: "    return words?.[slot] === segment.id;",
    why: "a block is live if the map leads to its segment",
  },
  {
    name: "block status ends one block early",
    file: "src/store/extents.ts",
    find: "    const until = Math.min(end, (index + 1) * chunkBlocks);\n    if (chunk === zeroChunk) {",
    replace:
      "    const until = Math.min(end, (index + 1) * chunkBlocks - 1);\n    if (chunk === zeroChunk) {",
    why: "off by one at the edge of a chunk",
  },
  {
    name: "changes that lie on a hole are not reported",
    file: "src/store/extents.ts",
    find: "    return left < firstSegmentId && right < firstSegmentId;\n",
    replace: "    return left < firstSegmentId || right < firstSegmentId;\n",
    why: "and, or",
  },
  {
    name: "the reserve is for everybody",
    file: "src/store/space-guard.ts",
    find: "    const left = this.freeBytes - cost - reserve;",
    replace: "    const left = this.freeBytes - cost - (this.#isShort ? reserve : 0);",
    why: "the reserve matters only when space is short, one thinks",
  },
];
