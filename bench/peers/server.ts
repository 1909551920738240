import type { Tool } from "../tools.ts";

export type ServerName =
  | "Kelpie"
  | "qemu-nbd qcow2"
  | "qemu-nbd raw"
  | "nbdkit memory"
  | "an empty server";

/** What is driven: one disk, full of data, behind an NBD server on a Unix socket. */
export interface BenchServer {
  readonly name: ServerName;
  readonly uri: string;
  /** Takes the processor away from it until `resume`: it must not work in the turn of another one. */
  pause(): void;
  resume(): void;
  /** Stops the server. Its files go with the scratch directory. */
  stop(): Promise<void>;
}

/** What each server needs beside fio. Kelpie needs nothing, nor does its NBD server alone. */
export const toolsOf: Record<ServerName, readonly Tool[]> = {
  Kelpie: [],
  "qemu-nbd qcow2": ["qemu-nbd", "qemu-img"],
  "qemu-nbd raw": ["qemu-nbd"],
  "nbdkit memory": ["nbdkit"],
  "an empty server": [],
};
