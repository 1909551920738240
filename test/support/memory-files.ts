import assert from "node:assert/strict";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { isKelpieError } from "../../src/base/errors.ts";
import type { FileHandle } from "../../src/host/files.ts";

export async function create(
  files: MemoryFiles,
  path: string,
  content: string,
): Promise<FileHandle> {
  const handle = await files.open(path, { access: "create" });
  if (content !== "") await handle.write([text(content)], 0);
  return handle;
}

export async function contentOf(files: MemoryFiles, path: string): Promise<string> {
  return new TextDecoder().decode(await files.readFile(path));
}

export async function fails(code: string, action: () => Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error: unknown) => isKelpieError(error) && error.code === code);
}

export function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}
