import assert from "node:assert/strict";
import { namedCases } from "../fail-at-n/call-cases.ts";
import { smallBytes } from "../fail-at-n/case-world.ts";
import type { CrashHistory } from "./crash-history.ts";
import { looseName, type VisibleState, visibleState } from "./visible-state.ts";

const w = looseName;

/** Short histories, by what they are about; each begins with a history of its own. */
export const histories: Record<string, (history: CrashHistory) => Promise<void>> = {
  ...callHistories(),
  "the creation of a store": async (history) => {
    await history.step("creation", "change", () => history.open(true));
    await history.step("first disk", "covering change", () => {
      return history.world.call("vdi.create", { name: w, sizeBytes: smallBytes });
    });
    await history.step("first write", "write", () => history.world.write(w, 3, 2001));
    await history.step("first flush", "flush", () => history.world.flush(w));
  },
  "writes, trims and flushes over the ends of segments": async (history) => {
    await history.begin();
    let number = 2000;
    for (let round = 0; round < 3; round++) {
      for (let block = 0; block < 8; block++) {
        const write = () => history.world.write(w, block * 2, ++number);
        // The segment ends every fourteen blocks: that is in the second and third round.
        await history.step("write", "write", write);
      }
      await history.step("trim", "write", () => history.world.trim(w, 2 * round));
      await history.step("flush", "flush", () => history.world.flush(w));
    }
  },
  "a checkpoint": async (history) => {
    await history.begin();
    await dirtyTwoChunks(history);
    await history.step("checkpoint", "upkeep", () => history.store.vdis.store.checkpoint());
    await history.step("write after it", "write", () => history.world.write(w, 5, 2100));
    await history.step("second checkpoint", "upkeep", () => history.store.vdis.store.checkpoint());
  },
  "cleaning that keeps spare files, and writing over them": async (history) => {
    await history.begin();
    // So that cleaning later has nothing to write again, for which it would take the files at once.
    await history.quietly("upkeep", () => history.world.call("store.clean", {}));
    await fillDeadSegments(history);
    await history.step("clean", "upkeep", () => history.world.call("store.clean", {}));
    const kept = await history.host.files.list("/store/spare");
    assert.ok(kept.length >= 2, `cleaning keeps spare files, it kept ${kept.length}`);
    for (let block = 0; block < 16; block++) {
      await history.step("write over", "write", () => history.world.write(w, block, 2300 + block));
    }
    const left = await history.host.files.list("/store/spare");
    assert.ok(left.length < kept.length, "a spare file is written over");
    await history.step("flush", "flush", () => history.world.flush(w));
    await history.step("clean again", "upkeep", () => history.world.call("store.clean", {}));
  },
  "purging what was deleted, and cleaning after it": async (history) => {
    await history.begin();
    const { world } = history;
    await history.step("purge", "change", () => world.call("vdi.purge", {}));
    await history.step("delete", "change", () =>
      world.call("vdi.delete", { name: w, snapshot: "one" }),
    );
    await history.step("clean", "upkeep", () => world.call("store.clean", {}));
  },
  "a sync that fails, and writing its data again": async (history) => {
    await history.begin();
    await dirtyTwoChunks(history);
    history.host.files.fail({ operation: "sync", on: (path) => path.includes("/logs/") });
    await history.step("flush", "flush", () => history.world.flush(w));
    await history.step("write after it", "write", () => history.world.write(w, 5, 2400));
    await history.step("flush after it", "flush", () => history.world.flush(w));
  },
  "a snapshot that is taken while the disk is written": async (history) => {
    await history.begin();
    await history.quietly("write", () => history.world.write(w, 7, 2500));
    await history.stepTo("snapshot", () => snapshotWhileWriting(history));
  },
  "a clean stop": async (history) => {
    await history.begin();
    await dirtyTwoChunks(history);
    await history.close("stop");
  },
};

/** Each call that is no query: with all data flushed before, and with some that is not. */
function callHistories(): typeof histories {
  const all: typeof histories = {};
  for (const { title, kind, covers, prepare, run, check, refused } of namedCases) {
    // What is refused whatever the host does changes nothing.
    if (kind === "query" || refused !== undefined) continue;
    const changes = covers === true ? "covering change" : "change";
    const stepKind = check === undefined ? "upkeep" : changes;
    const asked = async (history: CrashHistory) => {
      const before = history.current;
      await history.step(title, stepKind, () => run(history.world));
      check?.(before, history.current);
    };
    all[title] = async (history) => {
      await history.begin({ prepare });
      await asked(history);
    };
    all[`${title}, with writes that are not flushed`] = async (history) => {
      await history.begin({ settled: false, prepare });
      await history.quietly("write", () => history.world.write(w, 7, 1001));
      await history.quietly("write", () => history.world.write(w, 1025, 1002));
      await asked(history);
    };
  }
  return all;
}

async function dirtyTwoChunks(history: CrashHistory): Promise<void> {
  for (const block of [3, 4, 1025]) {
    await history.quietly("write", () => history.world.write(w, block, 2000 + block));
  }
}

/** Several segments of which nothing is needed any more, and a write that is not flushed. */
async function fillDeadSegments(history: CrashHistory): Promise<void> {
  const { world } = history;
  await history.quietly("write", async () => {
    for (let round = 0; round < 4; round++) {
      for (let block = 0; block < 14; block++) {
        await world.write(w, block, 2200 + 20 * round + block);
      }
    }
  });
  await history.quietly("flush", () => world.flush(w));
  await history.quietly("write", () => world.write(w, 14, 2299));
}

/** The write falls before the cut or behind it; in both cases it may be lost until it is flushed. */
async function snapshotWhileWriting(
  history: CrashHistory,
): Promise<{ during: VisibleState[]; afterwards: VisibleState[] }> {
  const before = history.current;
  const snapshot = history.world.call("vdi.snapshot", { names: [w], tag: "busy" });
  await history.world.write(w, 8, 2501);
  await snapshot;
  const after = await visibleState(history.store);
  const frozen = /^w#\d+ snapshot busy .* holds (.*)$/m.exec(after.structure)?.[1];
  assert.ok(frozen !== undefined);
  assert.ok(frozen === before.loose || frozen === after.loose, "the snapshot is one moment");
  const afterwards = [{ ...after, loose: frozen }, after];
  const lost = /\b7=\d+ ?/;
  const unwritten = { ...before, loose: before.loose.replace(lost, "").trim() };
  return {
    during: [unwritten, before, { ...before, loose: after.loose }, ...afterwards],
    afterwards,
  };
}
