import assert from "node:assert/strict";
import { type CallInput, type CallName, calls } from "../../src/control/calls.ts";
import { looseName, type VisibleState } from "../crash-points/visible-state.ts";
import { type CaseWorld, looseBytes, smallBytes } from "./case-world.ts";

/** One way to ask for a call, on the family that `makeFamily` makes. */
export interface CallCase {
  /** What is special about it, if a call has several. */
  name?: string;
  /** Durable changes before: after them the store is closed and opened again. */
  prepare?: (world: CaseWorld) => Promise<void>;
  run: (world: CaseWorld) => Promise<unknown>;
  /** Success means that what the loose disk holds is safe too. */
  covers?: boolean;
  /** What must have happened. Left out: nothing that can be seen. */
  check?: (before: VisibleState, after: VisibleState) => void;
  /** Fails at once, and says so, whatever the host does. */
  refused?: RegExp;
}

const w = looseName;

/** What only a server knows. */
const serverCases = {
  "server.info": [onlyServers("server.info", {})],
  "server.statistics": [onlyServers("server.statistics", {})],
  "server.history": [onlyServers("server.history", {})],
  "server.connections": [onlyServers("server.connections", {})],
  "server.changes": [onlyServers("server.changes", {})],
  "job.start": [onlyServers("job.start", { call: "store.clean" })],
  "job.list": [onlyServers("job.list", {})],
  "job.info": [onlyServers("job.info", { id: 1 })],
  "job.cancel": [onlyServers("job.cancel", { id: 1 })],
} as const satisfies Partial<Record<CallName, readonly CallCase[]>>;

function onlyServers<N extends CallName>(name: N, input: CallInput<N>): CallCase {
  return { run: (world) => world.call(name, input), refused: /no server is running/ };
}

/** Every call of control/ has at least one case; a test holds it to that. */
export const callCases: Record<CallName, readonly CallCase[]> = {
  ...serverCases,
  "vdi.create": [
    {
      run: (world) => world.call("vdi.create", { name: "e", sizeBytes: smallBytes }),
      check: (before, after) => added(before, after, [/^e#1 working {2}65536 B holds nothing$/]),
    },
  ],
  "vdi.setQos": [
    { run: (world) => world.call("vdi.setQos", { name: w, qos: { opsPerSecond: 1_000_000 } }) },
  ],
  "vdi.setFlush": [
    {
      run: (world) => world.call("vdi.setFlush", { name: w, flush: "local" }),
      refused: /to be chosen in an object store/,
    },
  ],
  "quota.set": [{ run: (world) => world.call("quota.set", { pattern: "*", limitBytes: 2 ** 40 }) }],
  "quota.list": [{ run: (world) => world.call("quota.list", {}) }],
  "vdi.list": [{ run: (world) => world.call("vdi.list", {}) }],
  "vdi.discarded": [{ run: (world) => world.call("vdi.discarded", {}) }],
  "vdi.info": [{ run: (world) => world.call("vdi.info", { name: w, snapshot: "one" }) }],
  "vdi.snapshot": [
    {
      run: (world) => world.call("vdi.snapshot", { names: [w], tag: "three" }),
      covers: true,
      check: (before, after) => {
        const frozen = `w#3 snapshot three ${looseBytes} B on w#1 holds ${before.loose}`;
        replaced(before, after, { [lineOfW(before)]: [frozen, lineOfW(after)] });
        assert.equal(after.loose, before.loose);
      },
    },
    {
      name: "of a group",
      run: (world) => world.call("vdi.snapshot", { names: ["c", w], tag: "both" }),
      covers: true,
      check: (before, after) => {
        assert.match(after.structure, /^c#1 snapshot both .* holds .*0=400/m);
        assert.ok(after.structure.includes(`w#3 snapshot both ${looseBytes} B on w#1 holds`));
        assert.equal(countLines(after), countLines(before) + 2);
      },
    },
  ],
  "vdi.vmstate": [
    { run: (world) => world.call("vdi.vmstate", { name: w, offset: 0, data: "c3RhdGU=" }) },
  ],
  "vdi.clone": [
    {
      run: (world) => world.call("vdi.clone", { source: w, snapshot: "two", name: "e" }),
      check: (before, after) => {
        const content = /^w#2 snapshot two .* (holds .*)$/m.exec(before.structure)?.[1];
        added(before, after, [new RegExp(`^e#1 working .* on w#2 clone ${content}$`)]);
      },
    },
  ],
  "vdi.rollback": [
    {
      run: (world) => world.call("vdi.rollback", { names: [w], snapshot: "two" }),
      covers: true,
      check: (before, after) => {
        const content = /^w#2 snapshot two .* holds (.*)$/m.exec(before.structure)?.[1];
        assert.equal(after.loose, content);
        const discarded = `w discarded by rollback ${looseBytes} B holds ${before.loose}`;
        assert.ok(after.structure.includes(discarded), "the old tip can be brought back");
        assert.equal(countLines(after), countLines(before) + 1);
      },
    },
    {
      name: "of a group",
      prepare: (world) => tagBoth(world, "both"),
      run: (world) => world.call("vdi.rollback", { names: ["c", w], snapshot: "both" }),
      covers: true,
      check: (before, after) => {
        const content = /^w#\d snapshot both .* holds (.*)$/m.exec(before.structure)?.[1];
        assert.equal(after.loose, content);
        assert.equal(countLines(after), countLines(before) + 2);
      },
    },
  ],
  "vdi.delete": [
    {
      run: (world) => world.call("vdi.delete", { name: w }),
      covers: true,
      check: (before, after) => {
        const discarded = `w discarded by delete ${looseBytes} B holds ${before.loose}`;
        assert.ok(after.structure.includes(discarded), "the disk can be brought back");
        assert.equal(after.loose, "");
      },
    },
    {
      name: "of a snapshot with children",
      run: (world) => world.call("vdi.delete", { name: w, snapshot: "one" }),
      check: (before, after) => {
        assert.ok(!after.structure.includes("snapshot one"));
        assert.equal(after.loose, before.loose);
        assert.equal(countLines(after), countLines(before) - 1);
      },
    },
    {
      name: "of a leaf snapshot",
      prepare: async (world) => void (await world.call("vdi.purge", {})),
      run: (world) => world.call("vdi.delete", { name: w, snapshot: "two" }),
      check: (before, after) => {
        assert.ok(!after.structure.includes("snapshot two"));
        assert.equal(countLines(after), countLines(before) - 1);
      },
    },
  ],
  "vdi.undelete": [
    {
      name: "of a deleted disk",
      run: (world) => world.call("vdi.undelete", { name: "d" }),
      check: (before, after) => {
        assert.match(after.structure, /^d#1 working {2}65536 B holds 1=501$/m);
        assert.equal(countLines(after), countLines(before));
      },
    },
    {
      name: "that changes places",
      run: (world) => world.call("vdi.undelete", { name: w }),
      covers: true,
      check: (before, after) => {
        const content = /^w discarded by rollback .* holds (.*)$/m.exec(before.structure)?.[1];
        assert.equal(after.loose, content);
        assert.ok(after.structure.includes(`w discarded by undelete ${looseBytes} B holds`));
        assert.equal(countLines(after), countLines(before));
      },
    },
  ],
  "vdi.purge": [
    {
      run: (world) => world.call("vdi.purge", {}),
      check: (before, after) => {
        assert.ok(before.structure.includes("discarded"));
        assert.ok(!after.structure.includes("discarded"));
        assert.equal(after.loose, before.loose);
      },
    },
  ],
  "vdi.resize": [
    {
      name: "larger",
      run: (world) => world.call("vdi.resize", { name: w, sizeBytes: looseBytes + 4096 }),
      covers: true,
      check: (before, after) => {
        const line = lineOfW(before).replace(`${looseBytes} B`, `${looseBytes + 4096} B`);
        replaced(before, after, { [lineOfW(before)]: [line] });
        assert.equal(after.loose, before.loose);
      },
    },
    {
      name: "smaller",
      run: (world) => world.call("vdi.resize", { name: "c", sizeBytes: 4096, shrink: true }),
      check: (before, after) => {
        assert.match(before.structure, /^c#1 working .* holds .*9=409/m);
        assert.match(after.structure, /^c#1 working {2}4096 B on w#1 clone holds 0=400$/m);
        assert.equal(countLines(after), countLines(before));
      },
    },
  ],
  "vdi.flatten": [
    {
      run: (world) => world.call("vdi.flatten", { name: "c" }),
      check: (before, after) => {
        const line = /^c#1 working (.*) on w#1 clone (holds .*)$/m.exec(before.structure);
        const [whole = "", size, holds] = line ?? [];
        const discarded = `c discarded by flatten ${looseBytes} B ${holds}`;
        replaced(before, after, { [whole]: [`c#1 working ${size} ${holds}`, discarded] });
      },
    },
  ],
  "vdi.locks": [{ run: (world) => world.call("vdi.locks", {}) }],
  "vdi.breakLock": [
    { run: (world) => world.call("vdi.breakLock", { name: w }), refused: /is not locked/ },
  ],
  "vdi.diff": [{ run: (world) => world.call("vdi.diff", { name: w, from: "one" }) }],
  "vdi.map": [{ run: (world) => world.call("vdi.map", { name: w }) }],
  "vdi.check": [{ run: async (world) => noFindings(await world.call("vdi.check", { name: w })) }],
  "vm.list": [{ run: (world) => world.call("vm.list", {}) }],
  "vm.create": [
    {
      run: (world) =>
        world.call("vm.create", {
          name: "v",
          disks: [],
          launch: { memory: "1G", arguments: [], directory: "/" },
        }),
      refused: /not served over NBD/,
    },
  ],
  "vm.attach": [
    { run: (world) => world.call("vm.attach", { name: "v" }), refused: /not served over NBD/ },
  ],
  "vm.savevm": [
    { run: (world) => world.call("vm.savevm", { name: "v" }), refused: /not served over NBD/ },
  ],
  "vm.loadvm": [
    {
      run: (world) => world.call("vm.loadvm", { name: "v", snapshot: "a" }),
      refused: /not served over NBD/,
    },
  ],
  "vm.delvm": [
    {
      run: (world) => world.call("vm.delvm", { name: "v", snapshot: "a" }),
      refused: /there is no VM "v"/,
    },
  ],
  "vm.snapshots": [
    { run: (world) => world.call("vm.snapshots", { name: "v" }), refused: /there is no VM "v"/ },
  ],
  "vm.branch": [
    {
      run: (world) => world.call("vm.branch", { name: "v", snapshot: "a", as: "x" }),
      refused: /there is no VM "v"/,
    },
  ],
  "vm.command": [
    {
      run: (world) => world.call("vm.command", { name: "v", line: "info status" }),
      refused: /there is no VM "v"/,
    },
  ],
  "vm.stop": [
    { run: (world) => world.call("vm.stop", { name: "v" }), refused: /there is no VM "v"/ },
  ],
  "vm.delete": [
    { run: (world) => world.call("vm.delete", { name: "v" }), refused: /there is no VM "v"/ },
  ],
  "store.info": [{ run: (world) => world.call("store.info", {}) }],
  "store.check": [
    {
      name: "with a leak to repair",
      prepare: async ({ store }) => {
        await store.vdis.store.backend.putIfAbsent("maps/00000000000f0000", [Buffer.alloc(9)]);
      },
      run: (world) => world.call("store.check", { repair: true }),
    },
  ],
  "store.clean": [
    {
      prepare: async (world) => {
        for (let round = 0; round < 4; round++) {
          for (let block = 0; block < 12; block++) await world.write(w, block, 700 + round);
        }
        await world.flush(w);
        await world.call("vdi.purge", {});
      },
      run: (world) => world.call("store.clean", {}),
    },
  ],
  "store.inspect": [{ run: (world) => world.call("store.inspect", { key: "catalog/" }) }],
};

export interface NamedCase extends CallCase {
  call: CallName;
  kind: "query" | "change" | "work";
  title: string;
}

export const namedCases: readonly NamedCase[] = Object.entries(callCases).flatMap(([call, cases]) =>
  cases.map((one) => ({
    ...one,
    call: call as CallName,
    kind: calls[call as CallName].kind,
    title: one.name === undefined ? call : `${call} ${one.name}`,
  })),
);

async function tagBoth(world: CaseWorld, tag: string): Promise<void> {
  await world.call("vdi.snapshot", { names: ["c", w], tag });
  await world.write("c", 0, 801);
  await world.write(w, 0, 802);
  await world.flush("c");
  await world.flush(w);
}

function noFindings({ findings }: { findings: unknown[] }): void {
  assert.deepEqual(findings, []);
}

function linesOf({ structure }: VisibleState): string[] {
  return structure.split("\n");
}

function countLines(state: VisibleState): number {
  return linesOf(state).length;
}

function lineOfW(state: VisibleState): string {
  return linesOf(state).find((line) => /^w#\d+ working/.test(line)) ?? "no w";
}

/** All lines are as before but for one or several new ones. */
function added(before: VisibleState, after: VisibleState, patterns: readonly RegExp[]): void {
  const fresh = linesOf(after).filter((line) => !linesOf(before).includes(line));
  assert.equal(fresh.length, patterns.length, fresh.join("\n"));
  patterns.forEach((pattern, at) => {
    assert.match(fresh[at] as string, pattern);
  });
  assert.equal(countLines(after), countLines(before) + patterns.length);
  assert.equal(after.loose, before.loose);
}

/** All lines are as before but for those that became others. Their order is not looked at. */
function replaced(
  before: VisibleState,
  after: VisibleState,
  becomes: Record<string, string[]>,
): void {
  const expected = linesOf(before).flatMap((line) => becomes[line] ?? [line]);
  assert.deepEqual(linesOf(after).sort(), expected.sort());
}
