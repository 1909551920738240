import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { projectRoot } from "../support/readme.ts";
import { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool } from "../support/tools.ts";

const noPromtool = requireTool("promtool", "prometheus");

/** /metrics of a server that has served reads, writes, flushes and an error. */
async function scrape(): Promise<string> {
  await using scratch = await Scratch.create();
  await using server = await ServerProcess.start(scratch.file("store"));
  await server.ok("vdi", "create", 'disk "1"', "8M");
  const device = await server.connect('disk "1"');
  await device.write([Buffer.alloc(8192, 1)], 0);
  await device.read(Buffer.alloc(4096), 0);
  await device.flush();
  await device.trim(0, 4096);
  await device.zero(4096, 4096);
  await device.close();
  const snapshot = await server.ok("vdi", "snapshot", 'disk "1"');
  assert.notEqual(snapshot, "");
  return await get(join(scratch.file("store"), "control.sock"), "/metrics");
}

function get(socketPath: string, path: string): Promise<string> {
  return new Promise((done, fail) => {
    const sent = request({ socketPath, path }, async (response) => {
      let text = "";
      for await (const chunk of response) text += chunk;
      assert.equal(response.statusCode, 200, text);
      done(text);
    });
    sent.on("error", fail);
    sent.end();
  });
}

const text = await scrape();
/** Name and type of each family. */
const families = new Map(
  [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = "", type = ""]) => [name, type]),
);

test("promtool accepts the figures", { skip: noPromtool }, () => {
  const { status, stderr, stdout } = spawnSync("promtool", ["check", "metrics"], {
    input: text,
    encoding: "utf8",
  });
  // 3 would be its advice on names; those of Node are the library's own.
  const ours = `${stdout}${stderr}`.split("\n").filter((line) => line.startsWith("kelpie_"));
  assert.deepEqual(ours, []);
  assert.ok(status === 0 || status === 3, `${status} ${stderr}`);
});

test("requests are counted by disk, protocol and command, with their times", () => {
  const of = (command: string) => `{disk="disk \\"1\\"",protocol="nbd",command="${command}"}`;
  for (const command of ["read", "write", "flush", "trim", "zero"]) {
    assert.ok(text.includes(`kelpie_requests_total${of(command)} 1\n`), command);
  }
  assert.ok(text.includes(`kelpie_request_bytes_total${of("write")} 8192\n`));
  assert.ok(text.includes(`kelpie_request_duration_seconds_count${of("read")} 1\n`));
  const buckets = [...text.matchAll(/duration_seconds_bucket\{.*command="read",le="(.*)"\} (\d)/g)];
  assert.equal(buckets.at(-1)?.[1], "+Inf");
  assert.equal(buckets.at(-1)?.[2], "1");
  const bounds = buckets.slice(0, -1).map(([, bound]) => Number(bound));
  assert.deepEqual(
    bounds.toSorted((a, b) => a - b),
    bounds,
  );
});

test("docs/metrics.md lists every figure of Kelpie's with its type, and no other", () => {
  const document = readFileSync(join(projectRoot, "docs/metrics.md"), "utf8");
  const listed = [...document.matchAll(/^\| `(kelpie_\w+)`[^|]*\| (\w+) \|/gm)];
  const ours = [...families].filter(([name]) => name.startsWith("kelpie_"));
  assert.deepEqual(
    listed.map(([, name = "", type = ""]) => [name, type]).toSorted(),
    ours.toSorted(),
  );
});

interface Panel {
  title: string;
  targets?: { expr: string }[];
}

const dashboard: { panels: Panel[] } = JSON.parse(
  readFileSync(join(projectRoot, "docs/grafana/kelpie.json"), "utf8"),
);
const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

test("the dashboard asks for figures that there are", () => {
  assert.ok(queries.length > 10);
  for (const query of queries) {
    const names = query.match(/\b(kelpie|process|nodejs)_\w+/g) ?? [];
    assert.ok(names.length > 0, query);
    for (const name of names) {
      const family = name.replace(/_(bucket|sum|count)$/, "");
      assert.ok(families.has(name) || families.get(family) === "histogram", `${name} in ${query}`);
    }
  }
});

test("Prometheus can parse every query of the dashboard", { skip: noPromtool }, async () => {
  await using scratch = await Scratch.create();
  const rules = queries.map((expr, index) => ({
    record: `query:${index}`,
    expr: expr.replaceAll("$__rate_interval", "5m").replaceAll("$disk", ".*"),
  }));
  // JSON is YAML.
  const file = scratch.file("rules.yml");
  writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
  const { status, stderr } = spawnSync("promtool", ["check", "rules", file], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
});
