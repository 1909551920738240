import type { Extent, ExtentQuery } from "../block/block-device.ts";
import { ExtentList } from "../block/extent-list.ts";
import type { SheepdogClient } from "./client.ts";
import { checkHeader, objectCount, readEntries, readHeader } from "./client-inode.ts";
import { entriesPerRead } from "./client-limits.ts";
import type { Lineage } from "./client-lineage.ts";
import { selectorOf } from "./client-names.ts";
import type { InodeHeader } from "./wire-inode.ts";

export interface DescribedPoint {
  header: Readonly<InodeHeader>;
  entries: Uint32Array;
  objectBytes: number;
}

/**
 * Answers an extent query from the map: whole objects, because that is what the cluster knows. What
 * differs between two points is so at most.
 */
export async function pointExtents(
  point: DescribedPoint,
  query: ExtentQuery,
  components: { client: SheepdogClient; lineage: Lineage },
): Promise<Extent[]> {
  const { entries, objectBytes } = point;
  const first = Math.floor(query.offset / objectBytes);
  const end = Math.ceil((query.offset + query.length) / objectBytes);
  // An answer may end before the question does.
  const count = Math.min(end - first, entriesPerRead);
  const range = { first, count };
  const valueAt = await valuesFor(point, query, { ...components, range });
  const endBytes = Math.min(query.offset + query.length, (first + count) * objectBytes);
  const list = new ExtentList(query.offset, endBytes, query.extentsMax);
  while (!list.full) {
    const index = Math.floor(list.position / objectBytes);
    list.upTo((index + 1) * objectBytes, valueAt(index, entries[index] ?? 0));
  }
  return list.extents;
}

interface Range {
  first: number;
  count: number;
}

type ValueAt = (index: number, vid: number) => number;

async function valuesFor(
  point: DescribedPoint,
  query: ExtentQuery,
  parts: { client: SheepdogClient; lineage: Lineage; range: Range },
): Promise<ValueAt> {
  if (query.kind === "allocation") return (_index, vid) => (vid === 0 ? 1 : 0);
  if (query.kind === "depth") return await depths(point, parts.range, parts.lineage);
  const { range, client } = parts;
  const { vid } = await client.lookup(selectorOf(point.header.name, query.since));
  const base = checkHeader(await readHeader(client, vid), vid);
  const known = Math.max(0, Math.min(range.count, objectCount(base) - range.first));
  const before = await readEntries(client, vid, { first: range.first, count: known });
  // Objects of different sizes have no entries in common.
  const isAlike = base.blockSizeShift === point.header.blockSizeShift;
  return (index, own) => (isAlike && (before[index - range.first] ?? 0) === own ? 0 : 1);
}

async function depths(
  { entries, header }: DescribedPoint,
  { first, count }: Range,
  lineage: Lineage,
): Promise<ValueAt> {
  const found = new Map([
    [0, 0],
    [header.vid, 1],
  ]);
  for (const vid of new Set(entries.subarray(first, first + count))) {
    // The vid of a snapshot that is gone may have been given up; then it is from far up.
    if (!found.has(vid)) found.set(vid, 1 + ((await lineage.distanceTo(vid)) ?? lineage.length));
  }
  return (_index, vid) => found.get(vid) ?? 1;
}
