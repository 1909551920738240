import { assert } from "../base/assert.ts";
import type { BlockDevice, Extent, ExtentKind } from "../block/block-device.ts";
import { flagsOfValue } from "./contexts.ts";
import { blockStatusExtents } from "./limits.ts";
import { encodeBlockStatus, type WireExtent } from "./wire-transmission.ts";

/** A metadata context that a client has negotiated. */
export interface ServedContext {
  id: number;
  kind: ExtentKind;
}

/** What the answer for one context takes at most. */
export const statusCostBytes = blockStatusExtents * 16;

export interface BlockStatusQuery {
  offset: number;
  length: number;
  onlyOne: boolean;
  extended: boolean;
}

/** Appends one payload to `into` for each context, in their order. */
export async function describeBlocks(
  query: BlockStatusQuery,
  parts: { device: BlockDevice; contexts: readonly ServedContext[]; into: Uint8Array[] },
): Promise<void> {
  const { offset, length, extended } = query;
  const extentsMax = query.onlyOne ? 1 : blockStatusExtents;
  for (const { id, kind } of parts.contexts) {
    // One after the other: their answers together are what a request may take.
    const extents = await parts.device.extents({ ...kind, offset, length, extentsMax });
    assert(extents.length >= 1 && extents.length <= extentsMax, "extents not as asked for");
    const wire = toWire(kind, extents);
    parts.into.push(encodeBlockStatus({ contextId: id, extents: wire }, extended));
  }
}

function toWire(kind: ExtentKind, extents: readonly Extent[]): WireExtent[] {
  return extents.map(({ lengthBytes, value }) => ({
    lengthBytes,
    value: flagsOfValue(kind, value),
  }));
}
