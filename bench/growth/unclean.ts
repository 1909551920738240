import { openLocalStore } from "../../src/control/local-store.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { within } from "../time-limit.ts";
import type { OpenCost } from "./operations.ts";
import { runChild, startChild } from "./run-child.ts";

export interface UncleanInput {
  directory: string;
  sizeBytes: number;
  writeBytes: number;
  order: "sequential" | "random";
}

const blockBytes = 4096;
/** 10 GiB in 4 KiB requests take two minutes or three. */
const writeMsMax = 1_200_000;
/** Larger than anything a run writes: no checkpoint is due. */
const never = Number.MAX_SAFE_INTEGER;

/**
 * Writes 4 KiB requests one at a time, so that each is a batch of its own, with checkpoints held back, says
 * so, and waits for the end, which is a SIGKILL.
 */
export async function writeUntilKilled(input: UncleanInput): Promise<void> {
  const { directory, sizeBytes, writeBytes, order } = input;
  const store = await openLocalStore(
    {
      directory,
      create: true,
      maintenance: {
        dirtyBytesMax: never,
        dirtyBytesLimit: never,
        appendedBytesMax: never,
        recordsMax: never,
        slackBytes: never,
      },
    },
    { host: createNodeHost({ logLevel: "warn" }) },
  );
  await store.control.call("vdi.create", { name: "disk", sizeBytes });
  const volume = store.vdis.volume("disk");
  const blocks = sizeBytes / blockBytes;
  const data = Buffer.alloc(blockBytes, 7);
  // A step that has no factor with the number of blocks reaches every block once, in no order.
  const step = order === "sequential" ? 1 : 1_000_003;
  for (let done = 0; done < writeBytes / blockBytes; done++) {
    data.writeUInt32LE(done);
    await volume.write([data], ((done * step) % blocks) * blockBytes);
  }
  console.log("written");
  await new Promise(() => setInterval(() => {}, 1000));
}

export interface UncleanOpen {
  writtenBytes: number;
  writeMs: number;
  /** In a fresh process, after the SIGKILL. */
  open: OpenCost;
}

/** Writes until the child says that it has, kills it by its id, and times the next opening. */
export async function measureUncleanOpen(input: UncleanInput): Promise<UncleanOpen> {
  const startMs = performance.now();
  const child = startChild("writeUntilKilled", input);
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const written = Promise.race([
    new Promise((resolve) => child.stdout?.once("data", resolve)),
    ended.then(() => {
      throw new Error("the writer ended before it was killed");
    }),
  ]);
  const giveUp = () => void child.kill("SIGKILL");
  await within({ what: `writing ${input.writeBytes} bytes`, ms: writeMsMax, giveUp }, written);
  const writeMs = performance.now() - startMs;
  child.kill("SIGKILL");
  await ended;
  const { directory } = input;
  const open = await runChild<OpenCost>("open", { directory, name: "disk" });
  return { writtenBytes: input.writeBytes, writeMs, open };
}
