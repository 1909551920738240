import type { OperationEvent } from "../memory-faults.ts";

/** What a path belongs to: `catalog`, `log`, … */
export function areaOf(path: string): string {
  const rest = path.replace(/^\/store\/?(tmp\/)?/, "");
  if (/^logs[/_]/.test(rest) && /[0-9a-f]{16}\.[0-9a-f]{8}/.test(rest)) return "body";
  const [, area] =
    /^(logs|catalog|checkpoints|maps|spare)\b|^(logs|catalog|checkpoints|maps)_/
      .exec(rest)
      ?.filter((part) => part !== undefined) ?? [];
  return area ?? "store";
}

/** Where a call falls, such as `logs sync`: the place of a crash. */
export function siteOf({ operation, path }: OperationEvent): string {
  return `${areaOf(path)} ${stepOf(operation)}`;
}

function stepOf(operation: OperationEvent["operation"]): string {
  switch (operation) {
    case "write":
    case "sync":
      return operation;
    case "truncate":
      return "write";
    case "open":
    case "link":
    case "rename":
    case "remove":
    case "makeDirectory":
    case "syncDirectory":
      return "name";
    default:
      return "read";
  }
}
