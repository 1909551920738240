import type { Mutant } from "./mutant.ts";

const volume = "src/vdi/volume.ts";
const vdis = "src/vdi/vdis.ts";
const transmission = "src/nbd/transmission.ts";

/** Disks as users and protocols see them. */
export const frontMutants: Mutant[] = [
  {
    name: "writes of parts of one block do not wait for each other",
    file: volume,
    find: '    return this.#holding({ first, count, mode: "exclusive" }, async () => {\n      // Whole',
    replace:
      '    return this.#holding({ first, count, mode: "shared" }, async () => {\n      // Whole',
    why: "many readers may hold a lock, and it begins with a read",
  },
  {
    name: "a write of a part reads the block before an earlier write is there",
    file: volume,
    find: "      await (await this.tip.openLog()).drained();\n      const start",
    replace: "      const start",
    why: "the range is locked",
  },
  {
    name: "a rollback does not wait for requests that are inside",
    file: "src/vdi/admission.ts",
    find: "    if (this.#inside === 0) return Promise.resolve();\n",
    replace: "    if (this.#inside <= 1) return Promise.resolve();\n",
    why: "off by one: the request that asks was thought to count",
  },
  {
    name: "a discarded tip is purged too early",
    file: "src/vdi/retention.ts",
    find: "      const isOld = nowMs - entry.discardedMs >= this.keep.ageMs;",
    replace: "      const isOld = nowMs - entry.discardedMs >= this.keep.ageMs / 60;",
    why: "minutes, seconds",
  },
  {
    name: "the newest discarded tip goes first",
    file: "src/vdi/retention.ts",
    find: "      (a, b) => a.discardedMs - b.discardedMs || a.point - b.point,",
    replace: "      (a, b) => b.discardedMs - a.discardedMs || a.point - b.point,",
    why: "sorted as lists are shown: newest first",
  },
  {
    name: "a tip is purged while it is brought back",
    file: vdis,
    find: "    for (const point of points) this.#claimed.add(point);\n",
    replace: "",
    why: "the name is locked, one thinks",
  },
  {
    name: "what a shrink cut off comes back when the disk grows",
    file: vdis,
    find: "      else await this.volume(name).forgetBeyondEnd(sizeBytes);\n",
    replace: "",
    why: "the shrink has forgotten it already",
  },
  {
    name: "a flatten loses what is written meanwhile",
    file: vdis,
    find: "          if (point.map.root !== before) throw writtenMeanwhile(name);\n",
    replace: "",
    why: "nobody uses the disk: that was checked at the begin",
  },
  {
    name: "a snapshot is served as writable",
    file: "src/vdi/snapshot-device.ts",
    find: "  readonly readOnly = true;",
    replace: "  readonly readOnly: boolean = false;",
    why: "copied from the volume",
  },
  {
    name: "the guard lets a request reach beyond the end",
    file: "src/block/guard.ts",
    find: "      offset <= this.#device.sizeBytes - length &&",
    replace: "      offset <= this.#device.sizeBytes &&",
    why: "the length is forgotten",
  },
  {
    name: "a read-only disk can be trimmed",
    file: "src/block/guard.ts",
    find:
      "    this.#checkWritable();\n" +
      '    if (!this.#contains(offset, length)) throw this.#outside("trim"',
    replace: '    if (!this.#contains(offset, length)) throw this.#outside("trim"',
    why: "a trim is a hint",
  },
  {
    name: "two ranges that touch in one place do not conflict",
    file: "src/base/range-lock.ts",
    find: "  return left.start < right.end && right.start < left.end &&",
    replace: "  return left.start < right.end - 1 && right.start < left.end - 1 &&",
    why: "half-open or closed",
  },
  {
    name: "FUA of an NBD request is lost",
    file: transmission,
    find: "    const options = (flags & commandFlag.fua) !== 0 ? withFua : undefined;",
    replace:
      "    const options = (flags & commandFlag.fua) !== 0 && offset !== 0 ? withFua : undefined;",
    why: "a condition too many",
  },
  {
    name: "the payload of a write is given back while the device has it",
    file: transmission,
    find: "      pending.payload = payload;\n",
    replace: "      this.#pump.release(payload);\n",
    why: "the device was given the bytes",
  },
  {
    name: "a structured reply without its done flag",
    file: "src/nbd/reply-writer.ts",
    find: "      this.#chunk(to, type, payload, index === payloads.length - 1 ? chunkFlag.done : 0);",
    replace:
      "      this.#chunk(to, type, payload, index === payloads.length ? chunkFlag.done : 0);",
    why: "off by one",
  },
  {
    name: "NO_HOLE is turned round",
    file: "src/nbd/request-rules.ts",
    find: "    keepAllocated: (flags & commandFlag.noHole) !== 0,",
    replace: "    keepAllocated: (flags & commandFlag.noHole) === 0,",
    why: "a double negation",
  },
  {
    name: "too many requests are taken at once",
    file: "src/block/request-pump.ts",
    find: "      this.#inFlight >= this.#settings.requestsInFlightMax ||",
    replace: "      this.#inFlight > this.#settings.requestsInFlightMax ||",
    why: "off by one",
  },
  {
    name: "a client takes a read that was answered in part",
    file: "src/nbd/client-replies.ts",
    find: "      awaited.covered.bytes < length\n",
    replace: "      awaited.covered.bytes === 0\n",
    why: "there was an answer",
  },
  {
    name: "a client whose server has no FUA does not flush",
    file: "src/nbd/client.ts",
    find: "flushAfter: !offered };",
    replace: "flushAfter: false };",
    why: "the flag is what the request is about",
  },
  {
    name: "what the system did not write at once is skipped",
    file: "src/host/node/file-handle.ts",
    find: "    let left = countBytes + this.#offset;",
    replace: "    let left = countBytes;",
    why: "one short write was thought of, a second one was not",
  },
];
