import { requireTool } from "../test/support/tools.ts";

/** The tools that are run beside Kelpie, and the Debian package that has each. */
const packages = {
  fio: "fio",
  "qemu-nbd": "qemu-utils",
  "qemu-img": "qemu-utils",
  nbdkit: "nbdkit",
  perf: "linux-perf",
} as const;

export type Tool = keyof typeof packages;

export function debianPackage(tool: Tool): string {
  return `Debian package ${packages[tool]}`;
}

/**
 * Why these cannot be used, or undefined if all are there. With KELPIE_REQUIRE_TOOLS=1 a missing tool is an
 * error, as in the tests.
 */
export function missingTools(tools: readonly Tool[]): string | undefined {
  for (const tool of tools) {
    const reason = requireTool(tool, packages[tool]);
    if (reason !== false) return reason;
  }
  return undefined;
}
