import type { Mutant } from "./mutant.ts";

/**
 * Chosen by somebody who had read the source and had not seen a test. Two more of that choice were on the
 * list already, word for word: "a read is checked against what was written during it" and "what a shrink
 * cut off comes back when the disk grows".
 */
export const unseenMutants: Mutant[] = [
  {
    name: "whether a segment has ended is looked up after its sync",
    file: "src/store/log/log-writer.ts",
    find:
      "    const settled = ended || (open === this.#current && open.units === place.units);\n" +
      "    if (settled) this.#unsynced = this.#unsynced.filter((other) => other !== open);\n" +
      "    if (ended) await",
    replace:
      "    const settled = open.ended || (open === this.#current && open.units === place.units);\n" +
      "    if (settled) this.#unsynced = this.#unsynced.filter((other) => other !== open);\n" +
      "    if (open.ended) await",
    why: "a segment that ended during its sync is as good as synced, one thinks",
  },
  {
    name: "the flush of a FUA write runs beside the write",
    file: "src/vdi/volume.ts",
    find: "    return isPending(done) ? done.then(() => this.tip.flush()) : this.tip.flush();",
    replace:
      "    if (!isPending(done)) return this.tip.flush();\n" +
      "    return Promise.all([done, this.tip.flush()]).then(() => {});",
    why: "two things that can go on at once take half the time",
  },
  {
    name: "recovery goes on behind a gap",
    file: "src/store/recover-log.ts",
    find:
      "    pieces.push(piece);\n" +
      "    // What follows stands on all of this one.\n" +
      "    if (limitUnits !== Number.POSITIVE_INFINITY && piece.endUnits < limitUnits) break;\n",
    replace: "    pieces.push(piece);\n",
    why: "the header of the next segment is sound, so it counts",
  },
  {
    name: "data that was written again continues a segment of which nothing is durable",
    file: "src/store/log/log-writer.ts",
    find:
      "    this.#chain = first.syncedPlace;\n" +
      "    if (this.#chain.units === 0) this.#chain = first.continues;\n",
    replace: "    this.#chain = first.syncedPlace;\n",
    why: "the place of the segment whose sync failed is where its data goes on",
  },
  {
    name: "what recovery needs is taken when a checkpoint is published",
    file: "src/store/checkpointer.ts",
    find: "    this.#floors = floors;\n",
    replace: "    this.#floors = this.#captureFloors();\n",
    why: "the newest state is at hand when it is needed",
  },
  {
    name: "a chunk copied from one that was never stored misses its leaves",
    file: "src/store/map/map-writer.ts",
    find: "      if (origin.reference === 0) chunk.dirtyLeaves |= origin.dirtyLeaves;\n",
    replace: "",
    why: "the original is written by the same checkpoint, one thinks; it may be gone",
  },
  {
    name: "logs are flushed before dead blocks are looked up",
    file: "src/store/cleaner.ts",
    find:
      "    const live = await this.#liveBlocks(segment);\n" +
      "    if (live === undefined) return;\n" +
      "    const old = segment.generation;\n" +
      "    // Durability: what overwrote the dead blocks must not be lost once they are gone.\n" +
      "    await flushLogs();\n",
    replace:
      "    // Durability: what overwrote the dead blocks must not be lost once they are gone.\n" +
      "    await flushLogs();\n" +
      "    const live = await this.#liveBlocks(segment);\n" +
      "    if (live === undefined) return;\n" +
      "    const old = segment.generation;\n",
    why: "the order of two awaits looks free",
  },
  {
    name: "a purge does not ask whether a tip is being brought back",
    file: "src/vdi/vdis.ts",
    find:
      "      const free = points.filter(\n" +
      "        (point) => this.registry.discarded.has(point) && !this.#claimed.has(point),\n" +
      "      );\n",
    replace: "      const free = points.filter((point) => this.registry.discarded.has(point));\n",
    why: "the registry still lists it as discarded",
  },
  {
    name: "a snapshot that was given up leaves its segments to nobody",
    file: "src/store/branch.ts",
    find: "    next.heir = frozen;\n",
    replace: "",
    why: "the point is gone, and whoever asks for its heir seems to be gone with it",
  },
  {
    name: "a zeroing takes no lock unless a part write is there already",
    file: "src/vdi/volume.ts",
    find:
      "    // one of them and write after it.\n" +
      '    return this.#holding({ first, count, mode: "shared" }, () => this.tip.zero(first, count, kind));',
    replace:
      "    // one of them and write after it.\n" +
      "    if (this.#partial.count === 0) return this.tip.zero(first, count, kind);\n" +
      '    return this.#holding({ first, count, mode: "shared" }, () => this.tip.zero(first, count, kind));',
    why: "as whole-block writes do, for speed",
  },
  {
    name: "the first write after opening does not wait for a snapshot under way",
    file: "src/store/store.ts",
    find: "    return this.#gate.during(() => tip.structure.run(() => this.#beginLog(tip)));",
    replace: "    return this.#gate.during(() => this.#beginLog(tip));",
    why: "opening a log changes no structure, one thinks",
  },
  {
    name: "memory of a reply is used again under a read that waits",
    file: "src/base/reply-buffer.ts",
    find: "      this.#position = end;\n" + "      this.#slabIsShared = true;\n",
    replace: "      this.#position = end;\n",
    why: "the replies before it are sent, so the slab looks empty",
  },
  {
    name: "changes behind an unchanged page are skipped",
    file: "src/store/extents.ts",
    find: "  if (sameNode(leftPage, rightPage)) return pageChunks - (index % pageChunks);\n",
    replace: "  if (sameNode(leftPage, rightPage)) return pageChunks;\n",
    why: "a page has so many chunks, from wherever one looks",
  },
  {
    name: "a range stays locked when its request fails",
    file: "src/vdi/volume.ts",
    find:
      "    try {\n" +
      "      await action();\n" +
      "    } finally {\n" +
      "      this.#partial.release(hold);\n" +
      "    }\n",
    replace: "    await action();\n" + "    this.#partial.release(hold);\n",
    why: "the release stands behind the action, as in the good case",
  },
];
