import { KelpieError } from "../../base/errors.ts";
import type { Backend } from "../backend/backend.ts";
import { bodyItemsOffset, decodeBodyIndex, encodeBodyIndex, mapBodyKind } from "../formats/body.ts";
import {
  chunkNodeBytes,
  decodeBranch,
  nodeBytes,
  nodeHeaderBytes,
  nodeType,
  objectOfReference,
  offsetOfReference,
  pageChunks,
  pageNodeBytes,
  zeroChunkReference,
} from "../formats/map-node.ts";
import { mapObjectStart } from "../formats/map-object.ts";
import { mapKey } from "../keys.ts";
import type { MapObject, MapObjects } from "./map-objects.ts";

/** An object is rewritten when less than this share of it is needed. */
const liveShareMin = 0.6;
const rootReadBytes = nodeHeaderBytes + 4096 * 8;

/**
 * Returns the space of map nodes that no point of the newest checkpoint reaches. It follows references
 * from the roots on the backend, so it depends on nothing in memory. No checkpoint may be written
 * meanwhile.
 */
export async function cleanMaps(
  roots: Iterable<number>,
  components: { backend: Backend; mapObjects: MapObjects },
): Promise<{ liveBytes: number }> {
  const reached = await reachedNodes(roots, components.mapObjects);
  let liveBytes = 0;
  for (const object of [...components.mapObjects.byNumber.values()]) {
    const places = reached.get(object.number);
    if (places === undefined) {
      components.mapObjects.byNumber.delete(object.number);
      components.mapObjects.forget(object.number);
      await components.backend.delete(mapKey(object.number, object.generation));
    } else {
      liveBytes += await cleanObject(object, places, components);
    }
  }
  return { liveBytes };
}

/** Object number -> offset / 8 of each node in it that some root reaches. */
export async function reachedNodes(
  roots: Iterable<number>,
  mapObjects: MapObjects,
): Promise<Map<number, Set<number>>> {
  const reached = new Map<number, Set<number>>();
  const visit = (reference: number): boolean => {
    const number = objectOfReference(reference);
    let places = reached.get(number);
    if (places === undefined) {
      places = new Set();
      reached.set(number, places);
    }
    const place = offsetOfReference(reference) / 8;
    if (places.has(place)) return false;
    places.add(place);
    return true;
  };
  for (const root of roots) {
    if (root === 0 || !visit(root)) continue;
    const [node] = await mapObjects.read([root], rootReadBytes);
    const pages = decodeBranch(node as Buffer, { type: nodeType.root, index: 0 });
    for (let index = 0; index < pages.length; index++) {
      const page = pages[index] as number;
      if (page !== 0 && visit(page)) await visitPage({ page, index, visit }, mapObjects);
    }
  }
  return reached;
}

async function visitPage(
  at: { page: number; index: number; visit: (reference: number) => boolean },
  mapObjects: MapObjects,
): Promise<void> {
  const [node] = await mapObjects.read([at.page], pageNodeBytes);
  const chunks = decodeBranch(node as Buffer, { type: nodeType.page, index: at.index });
  const slots: number[] = [];
  chunks.forEach((chunk, slot) => {
    if (chunk !== 0 && chunk !== zeroChunkReference && at.visit(chunk)) slots.push(slot);
  });
  const nodes = await mapObjects.read(
    slots.map((slot) => chunks[slot] as number),
    chunkNodeBytes,
  );
  slots.forEach((slot, index) => {
    const name = { type: nodeType.chunk, index: at.index * pageChunks + slot };
    for (const leaf of decodeBranch(nodes[index] as Buffer, name)) if (leaf !== 0) at.visit(leaf);
  });
}

/** Rewrites the object if it is worth it; says how much of it is needed. */
async function cleanObject(
  object: MapObject,
  places: Set<number>,
  components: { backend: Backend; mapObjects: MapObjects },
): Promise<number> {
  const { backend, mapObjects } = components;
  const bytes = Buffer.from(await backend.get(mapKey(object.number, object.generation)));
  const live = nodesOf(object, bytes).filter((node) => places.has(node.place));
  const liveBytes = live.reduce((sum, node) => sum + node.bytes.length, 0);
  if (liveBytes >= object.bytes * liveShareMin) return liveBytes;
  const words = new Uint32Array(live.length * 4);
  let offset = bodyItemsOffset(live.length);
  live.forEach((node, at) => {
    words.set([node.place, offset / 8, node.bytes.length, 0], at * 4);
    offset += node.bytes.length;
  });
  const { number } = object;
  const old = object.generation;
  for (let generation = old + 1; ; generation++) {
    const index = encodeBodyIndex(mapBodyKind, { log: 0, number, generation, words });
    const key = mapKey(number, generation);
    const outcome = await backend.putIfAbsent(key, [...index, ...live.map((node) => node.bytes)]);
    // Left over from a clean that failed after its put: the next sweep removes it.
    if (outcome === "exists") continue;
    if (outcome === "unknown") throw new KelpieError("io", `${key} could not be created`);
    object.generation = generation;
    object.bytes = offset;
    mapObjects.forget(number);
    await backend.delete(mapKey(number, old));
    return liveBytes;
  }
}

interface StoredNode {
  /** Offset / 8 at which it was first written. */
  place: number;
  /** With its padding. */
  bytes: Buffer;
}

/** All nodes of a map object's current body, by place. */
function nodesOf(object: MapObject, bytes: Buffer): StoredNode[] {
  const nodes: StoredNode[] = [];
  if (object.generation > 0) {
    const { words } = decodeBodyIndex(mapBodyKind, bytes, mapKey(object.number, object.generation));
    for (let at = 0; at < words.length; at += 4) {
      const offset = (words[at + 1] as number) * 8;
      const length = words[at + 2] as number;
      nodes.push({ place: words[at] as number, bytes: bytes.subarray(offset, offset + length) });
    }
    return nodes;
  }
  for (let offset = mapObjectStart; offset < bytes.length; ) {
    const length = nodeBytes(bytes.subarray(offset));
    if (length === undefined)
      throw new KelpieError("corrupt", `${mapKey(object.number)} is damaged`);
    const padded = Math.ceil(length / 8) * 8;
    nodes.push({ place: offset / 8, bytes: bytes.subarray(offset, offset + padded) });
    offset += padded;
  }
  return nodes;
}
