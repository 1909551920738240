import type { Mutant } from "./mutant.ts";

const logWriter = "src/store/log/log-writer.ts";
const directory = "src/store/backend/directory.ts";

/** What is to be safe is not, or is said to be too early. */
export const durabilityMutants: Mutant[] = [
  {
    name: "a segment is not synced",
    file: logWriter,
    find: "      await open.handle.sync();\n      if (!open.named) {",
    replace: "      if (!open.named) {",
    why: "the write returned, and everything works until power fails",
  },
  {
    name: "a new segment's name is not synced",
    file: logWriter,
    find: "        await this.#segmentFiles.syncNames();\n        open.named",
    replace: "        open.named",
    why: "fdatasync of the file looks like enough",
  },
  {
    name: "a new log's directory is not synced",
    file: "src/store/log/segment-files.ts",
    find: "    for (const path of [...this.#toSync].sort()) await this.#files.syncDirectory(path);\n",
    replace: "",
    why: "the directory of the segments is synced, the one above it is forgotten",
  },
  {
    name: "a flush is answered for batches that came during its sync",
    file: logWriter,
    find: "        this.#synced = Math.max(this.#synced, target);",
    replace: "        this.#synced = this.applied;",
    why: "after the sync everything is synced, one thinks",
  },
  {
    name: "the claim of a synced place is taken after the sync",
    file: logWriter,
    find: "        if (place !== undefined) this.#syncedPlace = { segment: place.segment",
    replace:
      "        const place = this.#current?.isEmpty === false ? this.#current.place : this.#chain;\n" +
      "        if (place !== undefined) this.#syncedPlace = { segment: place.segment",
    why: "the same mistake, in the other variable",
  },
  {
    name: "a segment that is empty is claimed to be synced",
    file: logWriter,
    find: "this.#current?.isEmpty === false ? this.#current.place : this.#chain;",
    replace: "this.#current?.place ?? this.#chain;",
    why: "where the log stands is where its segment stands",
  },
  {
    name: "a segment that repeats data counts before it is whole",
    file: logWriter,
    find: 'open.encode(operations, this.#syncedPlace, "without segment header");',
    replace: "open.encode(operations, this.#syncedPlace);",
    why: "a segment begins with its header",
  },
  {
    name: "a segment is taken for synced up to where it is now",
    file: logWriter,
    find: "    open.syncedPlace = place;\n",
    replace: "    open.syncedPlace = open.place;\n",
    why: "the variable that was read before the sync looks superfluous",
  },
  {
    name: "a failed sync is tried again",
    file: logWriter,
    find: "        await this.#repair(error);",
    replace:
      "        const again = segments.map((open) => this.#syncSegment(open));\n" +
      "        await Promise.all(again).catch(() => this.#repair(error));\n" +
      "        this.#synced = Math.max(this.#synced, target);",
    why: "trying again is what one does with an operation that failed",
  },
  {
    name: "data that a failed sync lost is written again and not synced",
    file: logWriter,
    find: "      await open.handle.sync();\n      await this.#segmentFiles.syncNames();\n",
    replace: "      await this.#segmentFiles.syncNames();\n",
    why: "it is on its way to a flush that will sync it, one thinks",
  },
  {
    name: "a cut does not end the segment",
    file: logWriter,
    find: "    this.#endCurrent();\n    return this.#next;\n",
    replace: "    return this.#next;\n",
    why: "an optimisation: a snapshot needs no new segment if the old one has room",
  },
  {
    name: "after a failed append the log goes on from an older place",
    file: logWriter,
    find: "    this.#chain = open.place;\n    try {",
    replace: "    try {",
    why: "the line is needed for a failure only",
  },
  {
    name: "a snapshot is recorded before its data is safe",
    file: "src/store/branch.ts",
    find:
      "    // Durability: a snapshot's data is safe before the snapshot exists.\n" +
      "    for (const { tip } of branches) await tip.flush();\n",
    replace: "",
    why: "the cut is made, and the flush of the next guest would do it",
  },
  {
    name: "a tip is moved with data that is not synced",
    file: "src/store/branch.ts",
    find: "    for (const { tip } of requests) await tip.flush();\n",
    replace: "",
    why: "a rollback throws the tip away, why sync it",
  },
  {
    name: "a checkpoint is written before its segments are synced",
    file: "src/store/checkpointer.ts",
    find: "      await log.settle();\n",
    replace: "",
    why: "maps and logs are separate things, one thinks",
  },
  {
    name: "a checkpoint does not notice that data was moved by a repair",
    file: "src/store/checkpointer.ts",
    find: "      if (log.repairs !== repairs || wasRepairing) {",
    replace: "      if (wasRepairing) {",
    why: "the flush went well",
  },
  {
    name: "a checkpoint removes records that came after it",
    file: "src/store/checkpointer.ts",
    find: "    await this.#removeOld(captured.records);",
    replace: "    await this.#removeOld(this.#components.catalog.last);",
    why: "the newest record is at hand and looks like the right number",
  },
  {
    name: "what a failed checkpoint would have covered is cleaned",
    file: "src/store/checkpointer.ts",
    find: "    await this.#publish(captured, points);\n    this.#floors = floors;\n",
    replace: "    this.#floors = floors;\n    await this.#publish(captured, points);\n",
    why: "two lines whose order does not seem to matter",
  },
  {
    name: "cleaning does not wait for what overwrote the dead blocks",
    file: "src/store/cleaner.ts",
    find: "    await flushLogs();\n",
    replace: "",
    why: "dead is dead, one thinks",
  },
  {
    name: "an object is linked before its content is synced",
    file: directory,
    find: "      await handle.sync();\n",
    replace: "",
    why: "the directory is synced right after",
  },
  {
    name: "an object's name is not synced",
    file: directory,
    find: "      await this.#tree.sync(directory);\n    } catch {",
    replace: "    } catch {",
    why: "link() has returned",
  },
  {
    name: "the sign that a name may not be durable is removed",
    file: directory,
    find: '    if (outcome !== "unknown") await this.#discard(temporary);\n    return outcome;',
    replace: "    await this.#discard(temporary);\n    return outcome;",
    why: "temporary files are cleaned up whatever happens",
  },
  {
    name: "a log's recovery does not sync what it found",
    file: "src/store/recover-log.ts",
    find: "    await handle.sync();\n    isTouched = true;",
    replace: "    isTouched = true;",
    why: "it was read from the disk, so it must be on the disk",
  },
  {
    name: "recovery does not sync the names of what it found",
    file: "src/store/recover-log.ts",
    find: "    await files.syncDirectory(parentOf(pathOf(backend, someKey)));\n",
    replace: "",
    why: "the files are synced one by one, and they were there already",
  },
  {
    name: "FUA is forgotten",
    file: "src/vdi/volume.ts",
    find: "    if (options.fua !== true) return done;\n",
    replace: "    if (options.fua !== true || isPending(done)) return done;\n",
    why: "the branch for what is done at once was tested, the other was not",
  },
  {
    name: "a spare file keeps its old name until some time",
    file: "src/store/log/spare-files.ts",
    find: "    await this.#files.syncDirectory(parentOf(path));\n",
    replace: "",
    why: "a rename is atomic",
  },
];
