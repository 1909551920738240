import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { TestReport } from "./test-reporter.ts";

export interface TestFileSettings {
  /** A file that takes longer is killed, with every process it started. */
  limitMs: number;
  /** Passed on to Node: `--test-name-pattern=…`. */
  nodeOptions: readonly string[];
  /** Stops the run: the file is killed. */
  signal: AbortSignal;
  /** The checkout that the file is of, if it is not this one. */
  directory?: string;
}

export interface TestFileResult {
  /** Of several files in one process: all their names. */
  path: string;
  durationMs: number;
  /** Every test and suite that ended, in the order in which they ended. */
  reports: TestReport[];
  /** What is wrong with the file as a whole: it hangs, it does not load, it has no test. */
  complaint: string | undefined;
  /** What it wrote to stdout and stderr, its end if that is long. */
  output: string;
}

/** A test that prints more than this is not read by people. */
const outputCharactersMax = 64 * 1024;

/** Runs one test file in a process of its own. */
export function runTestFile(path: string, settings: TestFileSettings): Promise<TestFileResult> {
  return runTests(path, [path], settings);
}

/** Runs test files of one folder in one process. The result's path names them all. */
export function runTestGroup(
  paths: readonly string[],
  settings: TestFileSettings,
): Promise<TestFileResult> {
  const [first = "", ...others] = paths;
  if (others.length === 0) return runTestFile(first, settings);
  const names = paths.map((path) => basename(path, ".test.ts"));
  const title = `${dirname(first)}/{${names.join(",")}}.test.ts`;
  return runTests(title, [join(import.meta.dirname, "test-group.ts"), ...paths], settings);
}

async function runTests(
  path: string,
  script: readonly string[],
  settings: TestFileSettings,
): Promise<TestFileResult> {
  const scratch = mkdtempSync(join(tmpdir(), "kelpie-test-"));
  const reportPath = join(scratch, "report");
  const startMs = performance.now();
  try {
    const end = await runProcess(
      [
        `--test-reporter=${join(import.meta.dirname, "test-reporter.ts")}`,
        `--test-reporter-destination=${reportPath}`,
        ...settings.nodeOptions,
        ...script,
      ],
      settings,
    );
    const events = readReports(reportPath);
    const reports = events.filter((report) => report.event !== "start");
    return {
      path,
      durationMs: performance.now() - startMs,
      reports,
      complaint: complaintOf(end, events, settings),
      output: end.output,
    };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

interface ProcessEnd {
  exitCode: number | null;
  signal: string | null;
  timedOut: boolean;
  output: string;
}

function runProcess(args: string[], settings: TestFileSettings): Promise<ProcessEnd> {
  return new Promise((resolve, reject) => {
    // A process group of its own, so that what the test started dies with it; and not as a part of
    // another run of tests, which the environment would tell it.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const child = spawn(process.execPath, args, {
      detached: true,
      env,
      cwd: settings.directory,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let timedOut = false;
    const collect = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-outputCharactersMax);
    };
    const kill = () => killGroup(child.pid);
    const timer = setTimeout(() => {
      timedOut = true;
      kill();
    }, settings.limitMs);
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", reject);
    settings.signal.addEventListener("abort", kill);
    child.on("exit", () => {
      clearTimeout(timer);
      settings.signal.removeEventListener("abort", kill);
      // What it left behind would hold the pipes open, and "close" would not come.
      kill();
    });
    child.on("close", (exitCode, signal) => resolve({ exitCode, signal, timedOut, output }));
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left in the group.
  }
}

function readReports(path: string): TestReport[] {
  let text = "";
  try {
    text = readFileSync(path, "utf8");
  } catch {
    // Killed before the reporter opened it.
  }
  // A line without its end was being written when the process was killed.
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line));
}

function complaintOf(
  { exitCode, signal, timedOut }: ProcessEnd,
  events: readonly TestReport[],
  { limitMs }: TestFileSettings,
): string | undefined {
  const ended = events.filter(({ event }) => event !== "start");
  if (timedOut) {
    const limit = `killed after ${limitMs / 1000} s`;
    const running = namesOfRunning(events).map((name) => `"${name}"`);
    if (running.length > 0) return `${limit}, in ${running.join(" > ")}`;
    return `${limit}: ${ended.length} tests had ended, something keeps the process alive`;
  }
  if (signal !== null) return `killed by ${signal}`;
  if (exitCode !== 0 && !ended.some(({ event }) => event === "fail")) {
    return `exit code ${exitCode} though no test failed`;
  }
  if (ended.length === 0) return "has no tests";
  return undefined;
}

/** Tests that started and did not end, outermost first. Their ends come in any order. */
function namesOfRunning(events: readonly TestReport[]): string[] {
  const running: TestReport[] = [];
  for (const report of events) {
    const index = running.findIndex(
      ({ name, nesting }) => name === report.name && nesting === report.nesting,
    );
    if (report.event === "start") running.push(report);
    else if (index !== -1) running.splice(index, 1);
  }
  return running.map(({ name }) => name);
}
