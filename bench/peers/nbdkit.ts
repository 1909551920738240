import { join } from "node:path";
import { PeerProcess } from "./peer-process.ts";
import type { BenchServer } from "./server.ts";

/** A server in C with nothing behind it: the ceiling. */
export async function startNbdkitMemory(options: {
  directory: string;
  sizeBytes: number;
}): Promise<BenchServer> {
  const socket = join(options.directory, "nbdkit.sock");
  const args = ["-f", "-U", socket, "memory", String(options.sizeBytes)];
  const running = await PeerProcess.start("nbdkit", args, socket);
  return {
    name: "nbdkit memory",
    uri: running.uri,
    pause: () => running.pause(),
    resume: () => running.resume(),
    stop: () => running.stop(),
  };
}
