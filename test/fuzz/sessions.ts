import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { MemoryDevice } from "../../src/block/memory-device.ts";
import type { Turn } from "./fuzzed-peer.ts";

export const sessionsDirectory = join(import.meta.dirname, "sessions");

export interface Session {
  name: string;
  turns: Turn[];
}

/** Sessions of clients that people use, on the disk below. */
export function recordedSessions(): Session[] {
  return readdirSync(sessionsDirectory)
    .sort()
    .map((file) =>
      sessionOf(file.replace(".hex", ""), readFileSync(join(sessionsDirectory, file))),
    );
}

export function saidIn(session: Session): Buffer {
  return Buffer.concat(session.turns.map(({ bytes }) => bytes));
}

/** The disk that the sessions were recorded with. */
export async function recordedDisk(): Promise<MemoryDevice> {
  const disk = new MemoryDevice(2 ** 17);
  disk.write([Buffer.alloc(8192, 5)], 2 ** 16);
  return disk;
}

function sessionOf(name: string, content: Buffer): Session {
  const turns: Turn[] = [];
  let heardBytes = 0;
  for (const line of content.toString("latin1").trim().split("\n")) {
    if (line.startsWith("<")) heardBytes += Number(line.slice(2));
    else turns.push({ heardBytes, bytes: Buffer.from(line.slice(2), "hex") });
  }
  return { name, turns };
}
