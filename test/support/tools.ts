import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/**
 * For a test's `skip` option: false when the tool is there, else the reason, naming the Debian
 * package. With KELPIE_REQUIRE_TOOLS=1 a missing tool is an error.
 */
export function requireTool(tool: string, debianPackage: string): string | false {
  for (const directory of (process.env.PATH ?? "").split(delimiter)) {
    try {
      accessSync(join(directory, tool), constants.X_OK);
      return false;
    } catch {
      // Not here: look in the next directory.
    }
  }
  const reason = `${tool} is not installed (Debian package ${debianPackage})`;
  if (process.env.KELPIE_REQUIRE_TOOLS === "1") throw new Error(reason);
  return reason;
}

export interface ToolResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Longer, and the tool hangs. */
const toolMs = 60_000;

/** Runs a tool to its end; rejects unless it exits with 0, with what it said. */
export async function runTool(tool: string, args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await tryTool(tool, args);
  if (status !== 0) {
    throw new Error(`${tool} ${args.join(" ")}: exit ${status}\n${stdout}\n${stderr}`);
  }
  return stdout;
}

export function tryTool(
  tool: string,
  args: readonly string[],
  timeout = toolMs,
): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, { stdio: ["ignore", "pipe", "pipe"], timeout });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, stdout, stderr }));
  });
}
