import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { SeededRandom } from "../../sim/random.ts";
import type { Files } from "../../src/host/files.ts";
import { createNodeFiles } from "../../src/host/node/files.ts";
import { createNodeRandom } from "../../src/host/node/random.ts";
import type { RandomSource } from "../../src/host/random.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { type BackendUnderTest, backendSuite } from "./backend-suite.ts";

backendSuite("a directory of this machine", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kelpie-backend-"));
  const components = { files: createNodeFiles(), random: createNodeRandom() };
  return underTest(`${directory}/store`, components, () =>
    rm(directory, { recursive: true, force: true }),
  );
});

backendSuite("a directory in memory", () =>
  underTest("/store", { files: new MemoryFiles(), random: new SeededRandom(1) }, async () => {}),
);

async function underTest(
  root: string,
  components: { files: Files; random: RandomSource },
  clear: () => Promise<void>,
): Promise<BackendUnderTest> {
  let backend = await openDirectoryBackend({ root }, components);
  return {
    backend,
    reopen: async () => {
      await backend.close();
      backend = await openDirectoryBackend({ root }, components);
      return backend;
    },
    [Symbol.asyncDispose]: async () => {
      await backend.close();
      await clear();
    },
  };
}
