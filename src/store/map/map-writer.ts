import { assert } from "../../base/assert.ts";
import { KelpieError } from "../../base/errors.ts";
import type { Timers } from "../../host/timers.ts";
import type { Backend } from "../backend/backend.ts";
import {
  chunkLeaves,
  encodeBranch,
  encodeLeaf,
  nodeType,
  pageChunks,
  referenceOf,
} from "../formats/map-node.ts";
import { mapObjectHeader, mapObjectStart } from "../formats/map-object.ts";
import { mapKey } from "../keys.ts";
import type { MapNodes } from "./map-nodes.ts";
import type { MapObject } from "./map-objects.ts";
import { type Chunk, type Page, type Root, storedAt, zeroChunk } from "./nodes.ts";

/** An object is put when it has grown to this much. */
const objectBytesTarget = 4 * 1024 * 1024;
/** Chunks encoded before others get their turn. */
const chunksPerTurn = 16;

interface Stored {
  reference: number;
  leafReferences?: Float64Array;
}

/**
 * Writes the changed nodes of maps into new map objects. Nodes learn where they are stored only in
 * `finish`, when every object is durable, so that a failure leaves them as they were.
 */
export class MapWriter {
  readonly #backend: Backend;
  readonly #nodes: MapNodes;
  readonly #timers: Timers;
  readonly #stored = new Map<Chunk | Page | Root, Stored>();
  readonly objects: MapObject[] = [];
  #nextNumber: number;
  #chunks: Uint8Array[] = [];
  #offset = 0;
  #sinceYield = 0;

  constructor(
    settings: { nextNumber: number },
    components: { backend: Backend; nodes: MapNodes; timers: Timers },
  ) {
    this.#nextNumber = settings.nextNumber;
    this.#backend = components.backend;
    this.#nodes = components.nodes;
    this.#timers = components.timers;
    this.#startObject();
  }

  get nextNumber(): number {
    return this.#nextNumber;
  }

  /** The root's reference; 0 if nothing is mapped. */
  async store(root: Root): Promise<number> {
    if (root.reference !== 0 || root.pages === undefined) return root.reference;
    const already = this.#stored.get(root);
    if (already !== undefined) return already.reference;
    const references = new Float64Array(root.pages.length);
    for (let index = 0; index < references.length; index++) {
      const page = root.pages[index];
      if (page !== undefined) references[index] = await this.#storePage(page, index);
    }
    const reference = references.every((child) => child === 0)
      ? 0
      : await this.#add(encodeBranch({ type: nodeType.root, index: 0 }, references));
    this.#stored.set(root, { reference });
    return reference;
  }

  /** Puts what is left, and tells the nodes where they are. */
  async finish(): Promise<void> {
    await this.#putObject();
    for (const [node, { reference, leafReferences }] of this.#stored) {
      if (reference === 0) continue;
      node.reference = reference;
      if (leafReferences !== undefined) {
        const chunk = node as Chunk;
        chunk.leafReferences = leafReferences;
        chunk.dirtyLeaves = 0;
        chunk.origin = undefined;
      }
      if ("words" in node || "chunks" in node) this.#nodes.admit(node);
    }
  }

  async #storePage(page: Page, index: number): Promise<number> {
    if (page.reference !== 0) return page.reference;
    const already = this.#stored.get(page);
    if (already !== undefined) return already.reference;
    assert(page.chunks !== undefined);
    const references = new Float64Array(pageChunks);
    let isEmpty = true;
    for (let slot = 0; slot < pageChunks; slot++) {
      const chunk = page.chunks[slot];
      if (chunk === undefined) continue;
      const stored =
        typeof chunk === "number" || chunk.reference !== 0
          ? storedAt(chunk)
          : (this.#stored.get(chunk)?.reference ??
            (await this.#storeChunk(chunk, index * pageChunks + slot)));
      references[slot] = stored;
      if (stored !== 0) isEmpty = false;
    }
    const reference = isEmpty
      ? 0
      : await this.#add(encodeBranch({ type: nodeType.page, index }, references));
    this.#stored.set(page, { reference });
    return reference;
  }

  async #storeChunk(chunk: Chunk, index: number): Promise<number> {
    assert(chunk.words !== undefined && chunk !== zeroChunk);
    if (++this.#sinceYield >= chunksPerTurn) {
      this.#sinceYield = 0;
      await new Promise<void>((resolve) => this.#timers.soon(resolve));
    }
    const leafReferences = this.#resolveOrigin(chunk);
    for (let leaf = 0; leaf < chunkLeaves; leaf++) {
      if ((chunk.dirtyLeaves & (1 << leaf)) === 0) continue;
      const node = encodeLeaf(chunk.words, leaf, index * chunkLeaves + leaf);
      leafReferences[leaf] = node.length <= emptyLeafBytes ? 0 : await this.#add(node);
    }
    const isEmpty = leafReferences.every((reference) => reference === 0);
    const reference = isEmpty
      ? 0
      : await this.#add(encodeBranch({ type: nodeType.chunk, index }, leafReferences));
    this.#stored.set(chunk, { reference, leafReferences });
    return reference;
  }

  /**
   * Where the leaves are stored that `chunk` did not change itself. A chunk that was copied from one
   * that had not been stored then learns it now; leaves that never were are dirty here too.
   */
  #resolveOrigin(chunk: Chunk): Float64Array {
    let references = chunk.leafReferences;
    for (let origin = chunk.origin; origin !== undefined; origin = origin.origin) {
      const stored = this.#stored.get(origin)?.leafReferences;
      if (stored !== undefined) {
        references = stored;
        break;
      }
      if (origin.reference === 0) chunk.dirtyLeaves |= origin.dirtyLeaves;
      references = origin.leafReferences;
    }
    return references.slice();
  }

  async #add(node: Buffer): Promise<number> {
    if (this.#offset + node.length > objectBytesTarget) {
      await this.#putObject();
      this.#startObject();
    }
    const reference = referenceOf(this.#nextNumber, this.#offset);
    this.#chunks.push(node);
    this.#offset += node.length;
    return reference;
  }

  #startObject(): void {
    this.#chunks = [mapObjectHeader()];
    this.#offset = mapObjectStart;
  }

  async #putObject(): Promise<void> {
    if (this.#offset === mapObjectStart) return;
    const number = this.#nextNumber++;
    const outcome = await this.#backend.putIfAbsent(mapKey(number), this.#chunks);
    if (outcome !== "created") {
      throw new KelpieError("io", `${mapKey(number)} could not be created: ${outcome}`);
    }
    this.objects.push({ number, generation: 0, bytes: this.#offset });
  }
}

/** A leaf of which no block is mapped: header and an empty set. */
const emptyLeafBytes = 32;
