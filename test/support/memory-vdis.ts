import assert from "node:assert/strict";
import type { MemoryFiles } from "../../sim/memory-files.ts";
import { createMemoryHost, type MemoryHost } from "../../sim/memory-host.ts";
import { openDirectoryBackend } from "../../src/store/backend/directory.ts";
import { Vdis, type VdisSettings } from "../../src/vdi/vdis.ts";

export interface MemoryVdis {
  vdis: Vdis;
  host: MemoryHost;
  files: MemoryFiles;
}

/** Disks of a store in memory, which is made if the files hold none. */
export async function openMemoryVdis(
  settings: Partial<VdisSettings> = {},
  files?: MemoryFiles,
): Promise<MemoryVdis> {
  const host = createMemoryHost(files === undefined ? { seed: 1 } : { seed: 1, files });
  const backend = await openDirectoryBackend({ root: "/store" }, host);
  const vdis = await Vdis.open(
    { directory: "/store", create: true, segmentBytesMax: 2 ** 20, ...settings },
    { host, backend },
  );
  return { vdis, host, files: host.files };
}

/** The byte that every byte of a range of the disk has; fails if they differ. */
export async function byteAt(
  device: { read(target: Uint8Array, offset: number): void | Promise<void> },
  offset: number,
  length = 512,
): Promise<number> {
  const target = Buffer.alloc(length, 0xee);
  await device.read(target, offset);
  const first = target[0] as number;
  assert.ok(
    target.every((byte) => byte === first),
    `the range at ${offset} is a mixture`,
  );
  return first;
}

export function filled(byte: number, length = 4096): Uint8Array[] {
  return [Buffer.alloc(length, byte)];
}
