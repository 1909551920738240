import { join } from "node:path";
import { PeerProcess } from "./peer-process.ts";
import type { BenchServer } from "./server.ts";

const program = join(import.meta.dirname, "empty-server-main.ts");

/** Kelpie's NBD server with no store behind it: as many requests as the client can ask for. */
export async function startEmptyServer(options: {
  directory: string;
  sizeBytes: number;
}): Promise<BenchServer> {
  const socket = join(options.directory, "empty.sock");
  const args = [program, socket, String(options.sizeBytes)];
  const running = await PeerProcess.start(process.execPath, args, socket);
  return {
    name: "an empty server",
    uri: running.uri,
    pause: () => running.pause(),
    resume: () => running.resume(),
    stop: () => running.stop(),
  };
}
