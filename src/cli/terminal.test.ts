import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { KelpieError } from "../base/errors.ts";
import { createTerminal } from "./terminal.ts";

const up = "\x1b[A";
const enter = "\r";
const ctrlD = "\x04";

/** Both ends of a terminal, as node:readline takes them for one. */
function keyboard() {
  const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode() {}, unref() {} });
  const output = Object.assign(new PassThrough(), { isTTY: true, columns: 80, rows: 25 });
  let shown = "";
  output.on("data", (text: Buffer) => {
    shown += text.toString();
  });
  const terminal = createTerminal(
    input as unknown as NodeJS.ReadStream,
    output as unknown as NodeJS.WriteStream,
  );
  return { terminal, input, shown: () => shown };
}

/** Keys, one group after the other has been dealt with; the lines that came of them. */
async function linesOf(
  keys: readonly string[],
  complete: (line: string) => Promise<string[]> = async () => [],
): Promise<{ lines: string[]; shown: string }> {
  const { terminal, input, shown } = keyboard();
  const typing = (async () => {
    for (const group of [...keys, ctrlD]) {
      input.write(group);
      for (let turn = 0; turn < 10; turn++) await new Promise((done) => setImmediate(done));
    }
  })();
  const lines: string[] = [];
  for await (const line of terminal.lines({ prompt: "> ", complete })) lines.push(line);
  await typing;
  return { lines, shown: shown() };
}

test("lines come as they are typed, and Ctrl-D ends them", async () => {
  const { lines, shown } = await linesOf(["info status", enter, "info block", enter]);
  assert.deepEqual(lines, ["info status", "info block"]);
  assert.ok(shown.includes("> "));
});

test("Up brings back what was typed before, and it can be changed", async () => {
  const keys = ["savevm a", enter, "info", enter, up, up, "\x7fb", enter];
  assert.deepEqual((await linesOf(keys)).lines, ["savevm a", "info", "savevm b"]);
});

test("Tab completes what has one continuation, and shows those of what has several", async () => {
  const words = ["savevm", "sendkey", "loadvm"];
  const complete = async (line: string) => words.filter((word) => word.startsWith(line));
  const { lines, shown } = await linesOf(
    ["l", "\t", " a", enter, "s", "\t", "\t", enter],
    complete,
  );
  assert.deepEqual(lines, ["loadvm a", "s"]);
  assert.match(shown, /savevm\s+sendkey/);
});

test("a completion that fails leaves the line as it is", async () => {
  const complete = async () => {
    throw new KelpieError("closed", "gone");
  };
  assert.deepEqual((await linesOf(["loa", "\t", "dvm x", enter], complete)).lines, ["loadvm x"]);
});
