import { assert } from "../../base/assert.ts";
import { pageChunks } from "../formats/map-node.ts";
import { emptyChunks, type MapNodes } from "./map-nodes.ts";
import {
  allLeaves,
  Chunk,
  chunkBytes,
  chunkWords,
  Page,
  type PageChunk,
  Root,
  zeroChunk,
} from "./nodes.ts";

/** "absent": it is stored but not in memory; `load` it and ask again. */
export type Lookup = Chunk | undefined | "absent";

/**
 * The map of one point: chunk number -> chunk. Looking up is synchronous; `load` brings in what is
 * not resident. A chunk that was loaded may be dropped again at any later turn of the loop, so who
 * needs it looks it up in the same turn as it is used.
 */
export class PointMap {
  readonly #nodes: MapNodes;
  root: Root;
  /** Nodes that carry it belong to this map alone. */
  #token: number;

  constructor(nodes: MapNodes, root?: Root) {
    this.#nodes = nodes;
    this.#token = nodes.newToken();
    this.root = root ?? new Root(this.#token, 0, []);
  }

  /** The map as it is now, for somebody else to keep: later changes here copy what they touch. */
  share(): Root {
    this.#token = this.#nodes.newToken();
    return this.root;
  }

  lookup(index: number): Lookup {
    const pages = this.root.pages;
    if (pages === undefined) return "absent";
    const page = pages[Math.floor(index / pageChunks)];
    if (page === undefined) return undefined;
    page.used = true;
    if (page.chunks === undefined) return "absent";
    const chunk = page.chunks[index % pageChunks];
    if (chunk === undefined) return undefined;
    if (typeof chunk === "number") return "absent";
    chunk.used = true;
    return chunk.words === undefined ? "absent" : chunk;
  }

  async load(index: number): Promise<Chunk | undefined> {
    for (;;) {
      const found = this.lookup(index);
      if (found !== "absent") return found;
      const root = this.root;
      if (root.pages === undefined) {
        await this.#nodes.loadRoot(root);
        continue;
      }
      const pageIndex = Math.floor(index / pageChunks);
      const page = root.pages[pageIndex] as Page;
      if (page.chunks === undefined) {
        await this.#nodes.loadPage(page, pageIndex);
        continue;
      }
      await this.#nodes.loadChunk(this.#storedChunk(page.chunks, index % pageChunks), index);
    }
  }

  /** The node of a chunk that is stored, made if its page only says where. */
  #storedChunk(chunks: PageChunk[], slot: number): Chunk {
    const found = chunks[slot];
    assert(found !== undefined, "a hole is not stored");
    if (typeof found !== "number") return found;
    const chunk = new Chunk(0, found, undefined);
    chunks[slot] = chunk;
    return chunk;
  }

  /** The page's chunks as they now are, without the chunks themselves; undefined if there is no page. */
  async loadPage(pageIndex: number): Promise<Page | undefined> {
    for (;;) {
      const { root } = this;
      if (root.pages === undefined) {
        await this.#nodes.loadRoot(root);
        continue;
      }
      const page = root.pages[pageIndex];
      if (page === undefined) return undefined;
      page.used = true;
      if (page.chunks !== undefined) return page;
      await this.#nodes.loadPage(page, pageIndex);
    }
  }

  /** Like `lookup`, but for a page of 1,024 chunks: whether anything can be mapped there. */
  pageIsEmpty(pageIndex: number): boolean {
    return this.root.pages !== undefined && this.root.pages[pageIndex] === undefined;
  }

  /** The chunk, made if it is a hole, for changing it. It must be resident or a hole. */
  writable(index: number): Chunk {
    const page = this.#writablePage(Math.floor(index / pageChunks));
    const chunks = page.chunks as PageChunk[];
    const slot = index % pageChunks;
    const found = chunks[slot];
    assert(typeof found !== "number", "the chunk is not resident");
    if (found !== undefined && found.token === this.#token) return found;
    const chunk = found === undefined ? this.#newChunk() : this.#copyChunk(found);
    chunks[slot] = chunk;
    this.#nodes.dirtyBytes += chunkBytes;
    return chunk;
  }

  /** Makes the chunk a hole, or all zeros. Its page must be resident. */
  replace(index: number, chunk: Chunk | undefined): void {
    const page = this.#writablePage(Math.floor(index / pageChunks));
    (page.chunks as PageChunk[])[index % pageChunks] = chunk;
  }

  #writablePage(pageIndex: number): Page {
    const root = this.#writableRoot();
    const pages = root.pages as (Page | undefined)[];
    while (pages.length <= pageIndex) pages.push(undefined);
    const found = pages[pageIndex];
    if (found !== undefined && found.token === this.#token) return found;
    assert(found === undefined || found.chunks !== undefined, "the page is not resident");
    const page = new Page(this.#token, 0, found?.chunks?.slice() ?? emptyChunks());
    pages[pageIndex] = page;
    return page;
  }

  #writableRoot(): Root {
    assert(this.root.pages !== undefined, "the root is not resident");
    if (this.root.token !== this.#token) {
      this.root = new Root(this.#token, 0, this.root.pages.slice());
    }
    return this.root;
  }

  #newChunk(): Chunk {
    return new Chunk(this.#token, 0, new Uint32Array(chunkWords));
  }

  #copyChunk(source: Chunk): Chunk {
    assert(source.words !== undefined, "the chunk is not resident");
    const chunk = new Chunk(this.#token, 0, source.words.slice());
    if (source === zeroChunk) chunk.dirtyLeaves = allLeaves;
    else if (source.reference === 0) chunk.origin = source;
    else chunk.leafReferences = source.leafReferences.slice();
    return chunk;
  }
}
