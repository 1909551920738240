import { z } from "zod";
import type { QmpClient } from "./client.ts";
import { parseAnswer } from "./messages.ts";

/** Answers of QEMU's commands, as far as they are used (qapi/block-core.json, qapi/run-state.json). */

const savedState = z.object({
  id: z.string(),
  name: z.string(),
  "vm-state-size": z.number(),
  "date-sec": z.number(),
  "vm-clock-sec": z.number(),
  "vm-clock-nsec": z.number(),
});

const blockNode = z.object({
  "node-name": z.string().default(""),
  drv: z.string(),
  ro: z.boolean(),
  /** For a network node its URI, or "json:…" if it has options that no URI says. */
  file: z.string(),
  image: z.object({
    filename: z.string(),
    "virtual-size": z.number(),
    snapshots: z.array(savedState).default([]),
  }),
});

/** A state of a VM that an image holds. */
export interface SavedState {
  name: string;
  sizeBytes: number;
  takenMs: number;
  /** How long the guest had run. */
  clockNs: number;
}

/** A node of QEMU's block graph. */
export interface BlockNode {
  name: string;
  driver: string;
  readOnly: boolean;
  file: string;
  savedStates: SavedState[];
}

const status = z.object({ status: z.string(), running: z.boolean() });

export interface RunState {
  /** "running", "paused", "prelaunch", "io-error" … (RunState in qapi/run-state.json). */
  state: string;
  isRunning: boolean;
}

export async function queryStatus(client: QmpClient): Promise<RunState> {
  const answer = parseAnswer(status, await client.execute("query-status"), "query-status");
  return { state: answer.status, isRunning: answer.running };
}

/** All nodes that have a name. */
export async function queryNodes(client: QmpClient): Promise<BlockNode[]> {
  const answer = await client.execute("query-named-block-nodes", { flat: true });
  const nodes = parseAnswer(z.array(blockNode), answer, "query-named-block-nodes");
  return nodes.map(nodeOf);
}

const device = z.object({
  device: z.string(),
  qdev: z.string().optional(),
  inserted: blockNode.optional(),
});

/** A drive that the guest sees. */
export interface Drive {
  /** For people: the device's id, else its path in QEMU. */
  id: string;
  node: BlockNode;
}

/** The guest's drives that have a medium in them. */
export async function queryDrives(client: QmpClient): Promise<Drive[]> {
  const drives = parseAnswer(z.array(device), await client.execute("query-block"), "query-block");
  return drives.flatMap(({ device: id, qdev, inserted }) => {
    if (inserted === undefined) return [];
    return [{ id: id || qdev || inserted["node-name"], node: nodeOf(inserted) }];
  });
}

/** A line for QEMU's monitor for people; what it printed. */
export async function humanCommand(client: QmpClient, line: string): Promise<string> {
  const input = { "command-line": line };
  const options = { timeoutMs: Number.POSITIVE_INFINITY };
  const answer = await client.execute("human-monitor-command", input, options);
  return parseAnswer(z.string(), answer, "human-monitor-command").replaceAll("\r\n", "\n");
}

function nodeOf(node: z.infer<typeof blockNode>): BlockNode {
  return {
    name: node["node-name"],
    driver: node.drv,
    readOnly: node.ro,
    file: node.file,
    savedStates: node.image.snapshots.map((state) => ({
      name: state.name,
      sizeBytes: state["vm-state-size"],
      takenMs: state["date-sec"] * 1000,
      clockNs: state["vm-clock-sec"] * 1e9 + state["vm-clock-nsec"],
    })),
  };
}
