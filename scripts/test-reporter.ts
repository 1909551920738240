import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

/** What scripts/test.ts needs to know of one test or suite: one line of JSON. */
export interface TestReport {
  event: "start" | "pass" | "fail";
  name: string;
  /** 0 for a test of the file itself. */
  nesting: number;
  suite: boolean;
  todo: boolean;
  cancelled: boolean;
  /** Why it was skipped, "" when no reason was given; null when it ran. */
  skip: string | null;
  /** A failure as Node prints it, with the stack and the values that differ. */
  error: string;
}

/** A reporter for `node --test-reporter`, which wants it as the default export. */
export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    const report = reportOf(event);
    if (report !== undefined) yield `${JSON.stringify(report)}\n`;
  }
}

function reportOf(event: TestEvent): TestReport | undefined {
  // Not "test:start": that one is held back until its turn in the output has come.
  if (event.type === "test:dequeue") return { ...blank, event: "start", ...place(event.data) };
  if (event.type !== "test:pass" && event.type !== "test:fail") return undefined;
  const { details, skip, todo } = event.data;
  const report: TestReport = {
    ...blank,
    event: event.type === "test:pass" ? "pass" : "fail",
    ...place(event.data),
    suite: details.type === "suite",
    todo: todo !== undefined && todo !== false,
    skip: skip === undefined || skip === false ? null : skip === true ? "" : skip,
  };
  if (!("error" in details)) return report;
  const { error } = details;
  const cancelled = "failureType" in error && error.failureType === "cancelledByParent";
  return { ...report, cancelled, error: inspect(error.cause ?? error, { depth: 4 }) };
}

const blank = { suite: false, todo: false, cancelled: false, skip: null, error: "" };

function place({ name, nesting }: { name: string; nesting: number }) {
  return { name, nesting };
}
