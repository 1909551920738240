import { z } from "zod";
import { KelpieError } from "../base/errors.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { RemoteExports } from "../sheepdog/client-exports.ts";
import { type RemoteVdis, remoteAttachmentKey } from "../sheepdog/client-vdis.ts";
import {
  type CallInput,
  type CallName,
  type CallOutput,
  type Control,
  calls,
  type RangeEntry,
} from "./calls.ts";
import type { Handlers } from "./control.ts";
import { RemoteEntries } from "./remote-entries.ts";

/** Ranges in one answer. */
const pageRangesMax = 4096;

interface Parts {
  vdis: RemoteVdis;
  entries: RemoteEntries;
  exports: RemoteExports;
}

/** What of the product works on a Sheepdog cluster; the rest is "unsupported". */
export function createRemoteControl(components: { vdis: RemoteVdis }): Control {
  const { vdis } = components;
  const parts: Parts = {
    vdis,
    entries: new RemoteEntries({ vdis }),
    exports: new RemoteExports({ vdis }),
  };
  const handlers: Partial<Handlers<CallName>> = { ...queries(parts), ...changes(parts) };
  return {
    async call<N extends CallName>(name: N, input: CallInput<N>): Promise<CallOutput<N>> {
      const handler = handlers[name] as Handlers<N>[N] | undefined;
      if (handler === undefined) throw unsupported(name, vdis.url);
      const parsed = calls[name].input.safeParse(input);
      if (parsed.success) return await handler(parsed.data as never, {});
      throw new KelpieError("invalid", `${name}: ${z.prettifyError(parsed.error)}`);
    },
  };
}

function queries({ vdis, entries, exports }: Parts): Partial<Handlers<CallName>> {
  return {
    "vdi.list": ({ name }) => entries.list(name),
    // What a rollback or a delete discards is gone in a cluster.
    "vdi.discarded": async () => [],
    "vdi.info": async ({ name, snapshot }) => {
      const entry = await entries.one(name, snapshot);
      const key = snapshot === undefined ? name : remoteAttachmentKey(name, entry.snapId);
      const points = await entries.list(name);
      const { vid, blockSizeShift, vmStateBytes } = await vdis.find(name, snapshot);
      return {
        entry,
        clients: vdis.attachments.of(key).map((client) => ({ ...client })),
        snapshots: points.filter(({ kind }) => kind === "snapshot").length,
        discarded: [],
        sheepdog: { vid, objectBytes: 2 ** blockSizeShift, besideBytes: vmStateBytes },
      };
    },
    "vdi.map": ({ name, snapshot, offset }) =>
      withDevice(exports, exportName(name, snapshot), async (device) => {
        // A hole has depth 0, and what has data has another: depth says both.
        const page = await rangePage(device, offset, { kind: "depth" });
        return { ranges: page.ranges.map(mapEntry), next: page.next };
      }),
    "vdi.diff": ({ name, from, to, offset }) =>
      withDevice(exports, exportName(name, to), async (device) => {
        const page = await rangePage(device, offset, { kind: "changed", since: from });
        const changed = page.ranges.filter(({ value }) => value === 1);
        return { ranges: changed.map(diffEntry), next: page.next };
      }),
  };
}

function changes({ vdis, entries }: Parts): Partial<Handlers<CallName>> {
  return {
    "vdi.create": async ({ name, sizeBytes }) => {
      await vdis.create(name, sizeBytes);
      return await entries.one(name);
    },
    "vdi.snapshot": async ({ names, tag, history, quiesce }) => {
      if (quiesce) throw unsupported("vdi.snapshot with file systems frozen", vdis.url);
      if (history !== undefined) throw unsupported("vdi.snapshot with a history", vdis.url);
      const name = onlyOne(names, "takes a snapshot of");
      const snapId = await vdis.snapshot(name, tag);
      return [await entries.one(name, `#${snapId}`)];
    },
    "vdi.clone": async ({ source, snapshot, name }) => {
      await vdis.clone(source, snapshot, name);
      return await entries.one(name);
    },
    "vdi.rollback": async ({ names, snapshot, live }) => {
      const name = onlyOne(names, "rolls back");
      await vdis.rollback(name, snapshot, live);
      return [await entries.one(name)];
    },
    "vdi.delete": async ({ name, snapshot }) => {
      if (snapshot === undefined) await vdis.delete(name);
      else await vdis.deleteSnapshot(name, snapshot);
      return { deleted: 1 };
    },
    "vdi.resize": async ({ name, sizeBytes }) => {
      await vdis.resize(name, sizeBytes);
      return await entries.one(name);
    },
  };
}

interface ValueRange {
  offset: number;
  length: number;
  value: number;
}

async function rangePage(
  device: BlockDevice,
  offset: number,
  kind: { kind: "depth" } | { kind: "changed"; since: string },
): Promise<{ ranges: ValueRange[]; next: number | null }> {
  const { sizeBytes } = device;
  if (offset >= sizeBytes) return { ranges: [], next: null };
  const query = { ...kind, offset, length: sizeBytes - offset, extentsMax: pageRangesMax };
  let at = offset;
  const ranges = (await device.extents(query)).map(({ lengthBytes, value }) => {
    const range = { offset: at, length: lengthBytes, value };
    at += lengthBytes;
    return range;
  });
  return { ranges, next: at < sizeBytes ? at : null };
}

function mapEntry({ offset, length, value }: ValueRange): RangeEntry {
  return { offset, length, kind: value === 0 ? "hole" : "data", depth: value };
}

function diffEntry({ offset, length }: ValueRange): RangeEntry {
  return { offset, length, kind: "changed" };
}

async function withDevice<T>(
  exports: RemoteExports,
  name: string,
  body: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  const opened = await exports.open(name, { protocol: "control", peer: "this process" });
  try {
    return await body(opened.device);
  } finally {
    await opened.close();
  }
}

function exportName(name: string, snapshot: string | undefined): string {
  if (snapshot === undefined) return name;
  return /^\d+$/.test(snapshot) ? `${name}@#${snapshot}` : `${name}@${snapshot}`;
}

function onlyOne(names: readonly string[], does: string): string {
  const [name, ...others] = names;
  if (name !== undefined && others.length === 0) return name;
  throw new KelpieError("unsupported", `a Sheepdog cluster ${does} one disk at a time`);
}

function unsupported(name: string, url: string): KelpieError {
  return new KelpieError(
    "unsupported",
    `${name} does not work on ${url}: it is a Sheepdog cluster`,
    {
      remedy: "kelpie vdi copy brings its disks into a store of Kelpie's, where it does",
    },
  );
}
