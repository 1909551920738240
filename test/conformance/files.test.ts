import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { createNodeFiles } from "../../src/host/node/files.ts";
import { filesSuite } from "./files-suite.ts";

filesSuite("this machine", async () => {
  const root = await mkdtemp(join(tmpdir(), "kelpie-files-"));
  return {
    files: createNodeFiles(),
    root,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
});

filesSuite("memory", async () => {
  const files = new MemoryFiles();
  await files.makeDirectory("/root");
  return { files, root: "/root", [Symbol.asyncDispose]: async () => {} };
});
