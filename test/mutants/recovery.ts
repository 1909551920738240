import type { Mutant } from "./mutant.ts";

const scan = "src/store/log/segment-scan.ts";
const recoverLog = "src/store/recover-log.ts";
const recovery = "src/store/recovery.ts";

/** What is read back is believed too easily, or in the wrong order. */
export const recoveryMutants: Mutant[] = [
  {
    name: "a torn tail is accepted",
    file: scan,
    find: "      if (crc32(block) !== crcs[first + index]) return false;\n",
    replace: "",
    why: "the header's checksum was right",
  },
  {
    name: "a stale batch behind a cut is accepted",
    file: scan,
    find: "header.position !== units || header.previous !== previous) break;",
    replace: "header.position !== units) break;",
    why: "position, log and segment are right, what else can it be",
  },
  {
    name: "a batch beyond what its successor stands on is accepted",
    file: scan,
    find: "    if (end > from.limitUnits) break;\n",
    replace: "",
    why: "the loop has a limit already",
  },
  {
    name: "a batch header's checksum is not checked",
    file: "src/store/formats/batch.ts",
    find: "  if (zeroed !== header.crc) return false;\n",
    replace: "",
    why: "a line lost in a merge",
  },
  {
    name: "a segment header's checksum is not checked",
    file: "src/store/formats/segment.ts",
    find: "    bytes.readUInt32LE(crcAt) === crc32(bytes.subarray(0, crcAt))",
    replace: "    bytes.readUInt32LE(crcAt) !== 0",
    why: "a stub that stayed",
  },
  {
    name: "a frame's checksum is not checked",
    file: "src/store/formats/frame.ts",
    find: "  if (crc32(payload, crc32(view.subarray(0, 12))) !== view.readUInt32LE(12)) {",
    replace: "  if (crc32(view.subarray(0, 12)) === view.readUInt32LE(12)) {",
    why: "the checksum covers two parts; one was forgotten and the test turned round to pass",
  },
  {
    name: "a map node is taken for another",
    file: "src/store/formats/map-node.ts",
    find: "  if (node[2] !== name.type || readU64(node, 8) !== name.index) {",
    replace: "  if (node[2] !== name.type) {",
    why: "the type is the part that can be wrong, one thinks",
  },
  {
    name: "a block is not checked when it is read from the page cache",
    file: "src/store/read-blocks.ts",
    find: "    checkBlocks(source, run, { crcs: words, at: crcsAt + run.slot });\n    return;",
    replace: "    return;",
    why: "what is in memory was checked when it came there, one thinks",
  },
  {
    name: "a block is not checked when it is read from the disk",
    file: "src/store/read-blocks.ts",
    find: "    () => checkBlocks(source, run, { crcs, at: 0 }),",
    replace: "    () => {},",
    why: "one of two paths is forgotten",
  },
  {
    name: "a read is checked against what was written during it",
    file: "src/store/read-blocks.ts",
    find: "  const crcs = words.slice(crcsAt + run.slot, crcsAt + run.slot + count);",
    replace: "  const crcs = words.subarray(crcsAt + run.slot, crcsAt + run.slot + count);",
    why: "subarray is faster than slice",
  },
  {
    name: "the tail of the segment that was synced in part is not checked",
    file: recoverLog,
    find: "isSynced ? Infinity : at.number === synced.segment ? synced.units : 0,",
    replace: "at.number <= synced.segment ? Infinity : 0,",
    why: "a simpler expression for nearly the same",
  },
  {
    name: "the oldest path of a log is taken",
    file: recoverLog,
    find: "  const newestFirst = [...found.keys()].sort((a, b) => b - a);",
    replace: "  const newestFirst = [...found.keys()].sort((a, b) => a - b);",
    why: "ascending is how one sorts",
  },
  {
    name: "damage is cut off like a torn tail",
    file: recoverLog,
    find: "    if (damage === undefined || acceptDamage)\n",
    replace: "",
    why: "cutting is what recovery does",
  },
  {
    name: "logs of a point are replayed by segment, not in their order",
    file: recovery,
    find: "      (a, b) => a.order - b.order || a.piece.number - b.piece.number,",
    replace: "      (a, b) => a.piece.number - b.piece.number,",
    why: "a point has one log, one thinks",
  },
  {
    name: "a missing catalog record is skipped",
    file: recovery,
    find: "    if (record.number !== expected || parseNumbered(catalogPrefix, key)?.number !== expected) {",
    replace: "    if (record.number < expected) {",
    why: "records come in order, so what is there is what there is",
  },
  {
    name: "the body that the checkpoint names is asked for though there is a newer one",
    file: recovery,
    find: "  return found.includes(known) ? known : Math.max(...found);",
    replace: "  return known;",
    why: "the checkpoint knows",
  },
  {
    name: "a number of a map object that was tried is used again",
    file: recovery,
    find: "    state.nextMap = Math.max(state.nextMap, number + 1);\n",
    replace: "",
    why: "the checkpoint has the next number",
  },
  {
    name: "a catalog record of somebody else is taken for one's own",
    file: "src/store/catalog.ts",
    find: "        if (standing.nonce === record.nonce) return record;",
    replace: "        if (standing.number === record.number) return record;",
    why: "the number is what was contended for",
  },
  {
    name: "a change whose outcome is not known is reported as failed",
    file: "src/store/catalog.ts",
    find: "        if (failure !== undefined && attempt === 1) throw failure;",
    replace: '        throw failure ?? new KelpieError("io", key);',
    why: "the record is not there, so it was not created",
  },
];
