import { assert } from "../../base/assert.ts";
import {
  chunkLeaves,
  chunkNodeBytes,
  decodeBranch,
  decodeLeaf,
  leafBytesMax,
  nodeType,
  pageChunks,
  pageNodeBytes,
} from "../formats/map-node.ts";
import {
  Chunk,
  chunkBytes,
  chunkWords,
  Page,
  type PageChunk,
  pageBytes,
  type Root,
  storedChunk,
} from "./nodes.ts";

export interface MapReader {
  /** For each reference, what stands there: at least its node, at most `lengthMax` bytes. */
  read(references: readonly number[], lengthMax: number): Promise<Buffer[]>;
}

/**
 * Loads stored nodes when they are asked for and drops the least recently used ones beyond a limit.
 * Nodes that are not stored yet are none of its business: their trees hold them.
 */
export class MapNodes {
  readonly #reader: MapReader;
  readonly #limitBytes: number;
  readonly #resident: (Chunk | Page)[] = [];
  #residentBytes = 0;
  #hand = 0;
  #lastToken = 0;
  /** Bytes of chunks that were changed since the counter was last set to 0. */
  dirtyBytes = 0;
  /** Of those, what the checkpoint under way has taken and not stored yet. */
  storingBytes = 0;
  loads = 0;

  constructor(settings: { limitBytes: number }, components: { reader: MapReader }) {
    this.#limitBytes = settings.limitBytes;
    this.#reader = components.reader;
  }

  get residentBytes(): number {
    return this.#residentBytes;
  }

  newToken(): number {
    return ++this.#lastToken;
  }

  loadRoot(root: Root): Promise<void> {
    root.loading ??= this.#readRoot(root).finally(() => {
      root.loading = undefined;
    });
    return root.loading;
  }

  loadPage(page: Page, index: number): Promise<void> {
    page.loading ??= this.#readPage(page, index).finally(() => {
      page.loading = undefined;
    });
    return page.loading;
  }

  loadChunk(chunk: Chunk, index: number): Promise<void> {
    chunk.loading ??= this.#readChunk(chunk, index).finally(() => {
      chunk.loading = undefined;
    });
    return chunk.loading;
  }

  /** A node that is resident and stored: it may be dropped from now on. */
  admit(node: Chunk | Page): void {
    assert(node.reference !== 0);
    node.used = true;
    this.#resident.push(node);
    this.#residentBytes += bytesOf(node);
    this.#shrink();
  }

  async #readRoot(root: Root): Promise<void> {
    const node = await this.#readOne(root.reference, rootReadBytes);
    const references = decodeBranch(node, { type: nodeType.root, index: 0 });
    this.loads++;
    root.pages = Array.from(references, (reference) =>
      reference === 0 ? undefined : new Page(0, reference, undefined),
    );
  }

  async #readPage(page: Page, index: number): Promise<void> {
    const node = await this.#readOne(page.reference, pageNodeBytes);
    const references = decodeBranch(node, { type: nodeType.page, index });
    this.loads++;
    page.chunks = Array.from(references, storedChunk);
    this.admit(page);
  }

  async #readChunk(chunk: Chunk, index: number): Promise<void> {
    const node = await this.#readOne(chunk.reference, chunkNodeBytes);
    const references = decodeBranch(node, { type: nodeType.chunk, index });
    const leaves = Array.from(references.keys()).filter((leaf) => references[leaf] !== 0);
    const stored = leaves.map((leaf) => references[leaf] as number);
    const nodes = await this.#reader.read(stored, leafBytesMax);
    const words = new Uint32Array(chunkWords);
    leaves.forEach((leaf, at) => {
      decodeLeaf(nodes[at] as Buffer, { words, leaf, index: index * chunkLeaves + leaf });
    });
    this.loads++;
    chunk.words = words;
    chunk.leafReferences = references;
    chunk.dirtyLeaves = 0;
    this.admit(chunk);
  }

  async #readOne(reference: number, lengthMax: number): Promise<Buffer> {
    const [node] = await this.#reader.read([reference], lengthMax);
    assert(node !== undefined);
    return node;
  }

  /** Second chance: passes over what was used since it last came by. */
  #shrink(): void {
    // Bounded, so that one admission never sweeps the whole cache.
    for (let steps = 64; steps > 0 && this.#residentBytes > this.#limitBytes; steps--) {
      if (this.#hand >= this.#resident.length) this.#hand = 0;
      const node = this.#resident[this.#hand] as Chunk | Page;
      if (node.used) {
        node.used = false;
        this.#hand++;
        continue;
      }
      this.#residentBytes -= bytesOf(node);
      const last = this.#resident.pop() as Chunk | Page;
      if (last !== node) this.#resident[this.#hand] = last;
      drop(node);
    }
  }
}

/** The largest root: 16 TiB in pages of 4 GiB. */
const rootReadBytes = 24 + 4096 * 8;

function drop(node: Chunk | Page): void {
  if (node instanceof Chunk) {
    // A stored chunk that is changed in place would have lost its reference.
    if (node.reference !== 0) node.words = undefined;
  } else if (node.reference !== 0) {
    node.chunks = undefined;
  }
}

function bytesOf(node: Chunk | Page): number {
  return node instanceof Chunk ? chunkBytes : pageBytes;
}

export function emptyChunks(): PageChunk[] {
  return new Array<PageChunk>(pageChunks).fill(undefined);
}
