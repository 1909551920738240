import { posix } from "node:path";
import { KelpieError } from "../base/errors.ts";
import type { Address } from "../host/net.ts";
import type { Drive } from "../qmp/commands.ts";

/** Which of a QEMU's drives are disks of this store, and what is to be done about the others. */
export interface SortedDrives {
  /** Names of VDIs. */
  disks: string[];
  /** Where the QEMU reaches this store's NBD server, if it does. */
  server: Address | undefined;
  /** Drives that are left out on purpose, as they were named. */
  leftOut: string[];
}

export interface DriveRules {
  vm: string;
  /** Where this store is served. */
  served: readonly Address[];
  isDisk(name: string): boolean;
  leaveOut: readonly string[];
}

/** Formats that keep nothing between the guest and the disk: what is rolled back under them is seen. */
const transparent = new Set(["nbd", "raw", "throttle", "copy-on-read"]);

/** Throws "unsupported" for a drive that the guest can write and that cannot be saved, with its name. */
export function sortDrives(drives: readonly Drive[], rules: DriveRules): SortedDrives {
  const disks: string[] = [];
  const leftOut: string[] = [];
  let server: Address | undefined;
  for (const drive of drives) {
    const names = [drive.node.name, drive.id];
    const chosen = rules.leaveOut.find((name) => names.includes(name));
    if (chosen !== undefined) {
      leftOut.push(chosen);
      continue;
    }
    // What nobody writes is the same before and after.
    if (drive.node.readOnly) continue;
    const found = parseNbdFile(drive.node.file);
    if (found === undefined || !isServed(found.server, rules.served)) throw notOurs(drive, rules);
    if (!rules.isDisk(found.exportName)) throw notOurs(drive, rules);
    if (!transparent.has(drive.node.driver)) throw hasCaches(drive, rules);
    if (!disks.includes(found.exportName)) disks.push(found.exportName);
    server ??= found.server;
  }
  const unknown = rules.leaveOut.find((name) => !leftOut.includes(name));
  if (unknown !== undefined) {
    throw new KelpieError("not-found", `VM "${rules.vm}" has no drive "${unknown}" to leave out`);
  }
  return { disks, server, leftOut };
}

/**
 * The file name of a node on NBD as QEMU writes it, "nbd+unix:///NAME?socket=PATH" or
 * "nbd://HOST:PORT/NAME"; nothing in it is escaped.
 */
export function parseNbdFile(file: string): { server: Address; exportName: string } | undefined {
  const onSocket = /^nbd\+unix:\/\/\/(.*)\?socket=(.+)$/s.exec(file);
  if (onSocket !== null) {
    const [, exportName = "", path = ""] = onSocket;
    return { exportName, server: { kind: "unix", path } };
  }
  const onHost = /^nbd:\/\/(?:\[([^\]]+)\]|([^:/]+)):(\d+)\/(.*)$/s.exec(file);
  if (onHost === null) return undefined;
  const [, v6, host, port, exportName = ""] = onHost;
  return { exportName, server: { kind: "tcp", host: v6 ?? host ?? "", port: Number(port) } };
}

function isServed(server: Address, served: readonly Address[]): boolean {
  return served.some((ours) => {
    if (ours.kind === "unix" && server.kind === "unix") {
      return posix.resolve(ours.path) === posix.normalize(server.path);
    }
    if (ours.kind !== "tcp" || server.kind !== "tcp" || ours.port !== server.port) return false;
    return ours.host === server.host || isAnyHost(ours.host) || bothLoopback(ours, server);
  });
}

function isAnyHost(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

function bothLoopback(...addresses: { host: string }[]): boolean {
  return addresses.every(({ host }) => /^(127\.|localhost$|::1$)/i.test(host));
}

function notOurs({ id, node }: Drive, { vm }: DriveRules): KelpieError {
  const name = node.name.startsWith("#") ? id : node.name;
  return new KelpieError(
    "unsupported",
    `drive "${name}" of VM "${vm}" is not a disk of this store: it is ${node.file}`,
    { remedy: `Left out with --leave-out ${name} it would be neither saved nor rolled back.` },
  );
}

function hasCaches({ node }: Drive, { vm }: DriveRules): KelpieError {
  return new KelpieError(
    "unsupported",
    `drive "${node.name}" of VM "${vm}" is a ${node.driver} image in the disk ${node.file}`,
    { remedy: `QEMU keeps parts of ${node.driver} in its memory: give the guest the disk itself.` },
  );
}
