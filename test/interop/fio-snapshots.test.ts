import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import type { CallOutput, VdiEntry } from "../../src/control/calls.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { isSoak } from "../support/soak.ts";
import { requireTool, runTool } from "../support/tools.ts";

const noFio = requireTool("fio", "fio");

/** The long form takes five minutes: `npm run soak -- fio-snapshots`. */
const rounds = isSoak ? 10 : 1;
const secondsPerRound = isSoak ? 30 : 8;
const snapshotEveryMs = 1000;
const mebibyte = 2 ** 20;

/**
 * Sizes and offsets are multiples of a sector, so most writes are of parts of blocks. Of fio's
 * modes that trim, the sequential one is the one that also writes and verifies.
 */
const jobs = [
  ["--name=sizes", "--rw=randwrite", "--bsrange=512-96k", "--fsync=40", "--offset=0"],
  ["--name=mixed", "--rw=randrw", "--bsrange=512-16k", "--fsync=60", "--offset=24M"],
  ["--name=trims", "--rw=trimwrite", "--bs=16k", "--fsync=50", "--offset=48M"],
  [
    ...["--name=holes", "--rw=randtrim", "--bsrange=512-256k", "--offset=72M"],
    ...["--verify=0", "--thinktime=5ms"],
  ],
].flat();

test("fio verifies what it writes, trims and flushes while snapshots are taken every second", {
  skip: noFio,
}, async () => {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await server.ok("vdi", "create", "disk", "96M");
  const digests = new Map<string, string>();
  for (let round = 0; round < rounds; round++) {
    const report = scratch.file("fio.json");
    const load = new AbortController();
    const fio = runFio(server.uri("disk"), report).finally(() => load.abort());
    await takeSnapshots(server, { digests, signal: load.signal });
    await fio;
    await checkReport(report);
  }

  assert.ok(digests.size >= rounds * (secondsPerRound - 2), `${digests.size} snapshots`);
  assert.ok(new Set(digests.values()).size === digests.size, "fio wrote between all of them");
  for (const [tag, digest] of digests) {
    assert.equal(await digestOf(server, `disk@${tag}`), digest, `snapshot ${tag} has changed`);
  }
  const entries = (await server.json("vdi", "list", "disk")) as VdiEntry[];
  assert.equal(entries.length, digests.size + 1);
  const check = (await server.json("store", "check")) as CallOutput<"store.check">;
  assert.deepEqual(check.findings, []);
  assert.ok(check.checkedBytes > 0);
});

function runFio(uri: string, report: string): Promise<string> {
  return runTool("fio", [
    "--ioengine=nbd",
    `--uri=${uri}`,
    "--size=24M",
    "--iodepth=16",
    "--time_based",
    `--runtime=${secondsPerRound}`,
    "--verify=crc32c",
    "--verify_fatal=1",
    "--verify_state_save=0", // It would be left in the working directory.
    "--verify_backlog=64",
    "--verify_backlog_batch=64",
    "--output-format=json",
    `--output=${report}`,
    ...jobs,
  ]);
}

/**
 * Until the load ends; what each snapshot held when it was new goes into `digests`. Reading it all takes
 * its time under load, and the next snapshot does not wait for that.
 */
async function takeSnapshots(
  server: ServerProcess,
  { digests, signal }: { digests: Map<string, string>; signal: AbortSignal },
): Promise<void> {
  let reading = Promise.resolve();
  while (!signal.aborted) {
    const startMs = performance.now();
    const tag = `s${digests.size}`;
    digests.set(tag, "");
    await server.ok("vdi", "snapshot", "disk", "-s", tag);
    reading = reading.then(async () => {
      digests.set(tag, await digestOf(server, `disk@${tag}`));
    });
    const restMs = Math.max(0, snapshotEveryMs - (performance.now() - startMs));
    await new Promise((resolve) => setTimeout(resolve, restMs));
  }
  await reading;
}

/** Of every fourth MiB, which is some of what each job writes; of all in a soak. */
async function digestOf(server: ServerProcess, exportName: string): Promise<string> {
  const client = await server.connect(exportName);
  const hash = createHash("sha256");
  const chunk = Buffer.alloc(mebibyte);
  const stride = isSoak ? mebibyte : 4 * mebibyte;
  for (let offset = 0; offset < client.sizeBytes; offset += stride) {
    await client.read(chunk, offset);
    hash.update(chunk);
  }
  await client.close();
  return hash.digest("hex");
}

interface FioJob {
  jobname: string;
  error: number;
  read: { total_ios: number };
  write: { total_ios: number };
  trim: { total_ios: number };
  sync: { total_ios: number };
}

/** fio has notes of its own in front of its JSON. */
async function checkReport(path: string): Promise<void> {
  const text = await readFile(path, "utf8");
  const report = JSON.parse(text.slice(text.indexOf("{"))) as { jobs: FioJob[] };
  assert.deepEqual(
    report.jobs.map(({ jobname, error }) => [jobname, error]),
    [
      ["sizes", 0],
      ["mixed", 0],
      ["trims", 0],
      ["holes", 0],
    ],
  );
  const [sizes, mixed, trims, holes] = report.jobs;
  assert.ok(sizes && mixed && trims && holes);
  for (const job of [sizes, mixed, trims]) {
    assert.ok(job.write.total_ios > 100, `${job.jobname} wrote ${job.write.total_ios} times`);
    assert.ok(job.read.total_ios > 100, `${job.jobname} verified ${job.read.total_ios} times`);
  }
  assert.ok(sizes.sync.total_ios + mixed.sync.total_ios > 20);
  assert.ok(trims.trim.total_ios > 100 && holes.trim.total_ios > 20);
}
