import { KelpieError } from "../base/errors.ts";
import {
  type BlockDevice,
  type Extent,
  type ExtentQuery,
  sectorBytes,
} from "../block/block-device.ts";
import type { SheepdogClient } from "./client.ts";
import { pointExtents } from "./client-extents.ts";
import type { RemotePoint } from "./client-inode.ts";
import { Lineage } from "./client-lineage.ts";
import { readParts } from "./client-objects.ts";

export interface RemoteSnapshotComponents {
  client: SheepdogClient;
  /** What `changeBases` says. */
  changeBases: () => Promise<string[]>;
}

/** A snapshot in a Sheepdog cluster as a device. Nothing of it changes, so its map is read once. */
export class RemoteSnapshot implements BlockDevice {
  readonly readOnly = true;
  readonly sizeBytes: number;
  readonly #point: RemotePoint;
  readonly #objectBytes: number;
  readonly #components: RemoteSnapshotComponents;
  readonly #lineage: Lineage;

  constructor(point: RemotePoint, components: RemoteSnapshotComponents) {
    const { sizeBytes, blockSizeShift, parentVid } = point.header;
    this.sizeBytes = sizeBytes - (sizeBytes % sectorBytes);
    this.#point = point;
    this.#objectBytes = 2 ** blockSizeShift;
    this.#components = components;
    this.#lineage = new Lineage(parentVid, components);
  }

  read(target: Uint8Array, offset: number): Promise<void> {
    const { client } = this.#components;
    const { entries } = this.#point;
    const point = { client, objectBytes: this.#objectBytes, entriesNow: () => entries };
    return readParts(point, target, offset);
  }

  write(): never {
    throw readOnly();
  }

  zero(): never {
    throw readOnly();
  }

  trim(): never {
    throw readOnly();
  }

  flush(): void {
    // Nothing is written.
  }

  cache(): void {
    // The protocol has no such hint.
  }

  extents(query: ExtentQuery): Promise<Extent[]> {
    const point = { ...this.#point, objectBytes: this.#objectBytes };
    const { client } = this.#components;
    return pointExtents(point, query, { client, lineage: this.#lineage });
  }

  changeBases(): Promise<string[]> {
    return this.#components.changeBases();
  }
}

function readOnly(): KelpieError {
  return new KelpieError("read-only", "a snapshot cannot be written");
}
