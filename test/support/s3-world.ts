import { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import { MemoryBucket } from "../../sim/memory-object-store.ts";
import type { LocalStore } from "../../src/control/local-store.ts";
import { openS3Store, type S3StoreSettings } from "../../src/control/s3-store.ts";
import type { Volume } from "../../src/vdi/volume.ts";

/** A machine that has a store in a bucket open, or had. */
export interface Machine {
  host: MemoryHost;
  files: MemoryFiles;
  store: LocalStore;
}

/** A bucket, and the machines that use it one after the other. */
export class S3World {
  readonly bucket = new MemoryBucket();
  #seed = 0;

  /** A new machine, with an empty disk by default. */
  async open(
    settings: Partial<S3StoreSettings> = {},
    files: MemoryFiles = new MemoryFiles(),
  ): Promise<Machine> {
    const host = createMemoryHost({ seed: ++this.#seed, files });
    const opening = openS3Store(
      {
        directory: "/local",
        create: true,
        segmentBytesMax: 64 * 1024,
        reserveBytes: 2 ** 20,
        where: `machine ${this.#seed}`,
        ...settings,
      },
      { host, objects: this.bucket.open() },
    );
    return { host, files, store: await passing(host, opening) };
  }

  keys(prefix: string): string[] {
    return [...this.bucket.objects.keys()].filter((key) => key.startsWith(prefix)).sort();
  }
}

/** Lets time pass on a machine until the promise is settled. */
export async function passing<T>(host: MemoryHost, promise: Promise<T>): Promise<T> {
  let isSettled = false;
  const settled = promise.finally(() => {
    isSettled = true;
  });
  settled.catch(() => {}); // whoever waits for it is told
  for (let turn = 0; !isSettled; turn++) {
    await host.time.sleep(0);
    // What is only turns of the loop is done before any time passes.
    if (turn % 8 === 7) await host.time.advance(10);
  }
  return settled;
}

export async function closing(machine: Machine): Promise<void> {
  await passing(machine.host, machine.store.close());
}

export function write(volume: Volume, block: number, byte: number, blocks = 1): Promise<void> {
  return Promise.resolve(volume.write([Buffer.alloc(blocks * 4096, byte)], block * 4096));
}

/** The first byte of each of the first blocks of a disk or snapshot. */
export async function bytesOf(machine: Machine, name: string, blocks: number): Promise<number[]> {
  const client = { protocol: "library" as const, peer: "test" };
  const opened = await machine.store.exports.open(name, client);
  const bytes = Buffer.alloc(blocks * 4096);
  await passing(machine.host, Promise.resolve(opened.device.read(bytes, 0)));
  await opened.close();
  return Array.from({ length: blocks }, (_, block) => {
    const part = bytes.subarray(block * 4096, (block + 1) * 4096);
    return part.every((byte) => byte === part[0]) ? (part[0] as number) : -1;
  });
}
