import type { Tool } from "../tools.ts";

export type ServerName = "Kelpie" | "qemu-nbd qcow2" | "qemu-nbd raw" | "nbdkit memory";

/** What is driven: one disk, full of data, behind an NBD server on a Unix socket. */
export interface BenchServer {
  readonly name: ServerName;
  readonly uri: string;
  /** Stops the server. Its files go with the scratch directory. */
  stop(): Promise<void>;
}

/** What each server needs beside fio. Kelpie needs nothing. */
export const toolsOf: Record<ServerName, readonly Tool[]> = {
  Kelpie: [],
  "qemu-nbd qcow2": ["qemu-nbd", "qemu-img"],
  "qemu-nbd raw": ["qemu-nbd"],
  "nbdkit memory": ["nbdkit"],
};
