import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost } from "../../sim/memory-host.ts";
import { MemoryBucket } from "../../sim/memory-object-store.ts";
import { SeededRandom } from "../../sim/random.ts";
import type { Files } from "../../src/host/files.ts";
import { createNodeFiles } from "../../src/host/node/files.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { createNodeRandom } from "../../src/host/node/random.ts";
import { openS3ObjectStore } from "../../src/host/node/s3-object-store.ts";
import type { RandomSource } from "../../src/host/random.ts";
import type { Backend } from "../../src/store/backend/backend.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { S3Backend } from "../../src/store/backend/s3.ts";
import { FakeS3 } from "../support/fake-s3.ts";
import { openTiered } from "../support/tiered.ts";
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

backendSuite("an S3 server", async () => {
  const server = await FakeS3.start();
  const open = () => {
    const objects = openS3ObjectStore({
      bucket: server.bucket,
      prefix: "some/prefix/",
      endpoint: server.endpoint,
      region: "us-east-1",
      pathStyle: true,
      credentials: { accessKeyId: server.accessKey, secretAccessKey: "secret" },
    });
    return new S3Backend({}, { ...createNodeHost({ logLevel: "silent" }), objects });
  };
  return reopened(open, () => server[Symbol.asyncDispose]());
});

backendSuite("an object store with a directory before it", async () => {
  const bucket = new MemoryBucket();
  const host = createMemoryHost({ seed: 1 });
  const open = () => openTiered({ directory: "/local", cacheBytes: 2 ** 20 }, { host, bucket });
  return reopened(open, async () => {});
});

async function reopened(
  open: () => Backend | Promise<Backend>,
  clear: () => Promise<void>,
): Promise<BackendUnderTest> {
  let backend = await open();
  return {
    backend,
    reopen: async () => {
      await backend.close();
      backend = await open();
      return backend;
    },
    [Symbol.asyncDispose]: async () => {
      await backend.close();
      await clear();
    },
  };
}

async function underTest(
  root: string,
  components: { files: Files; random: RandomSource },
  clear: () => Promise<void>,
): Promise<BackendUnderTest> {
  return reopened(() => openDirectoryBackend({ root }, components), clear);
}
