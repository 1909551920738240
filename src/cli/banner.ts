import type { CallOutput } from "../control/calls.ts";
import type { Address } from "../host/net.ts";
import { socketPathBytesMax } from "../http/socket-path.ts";
import { formatNbdUri, type UriTls } from "../nbd/uri.ts";
import { formatAddress } from "./addresses.ts";
import { defaultStore } from "./session.ts";
import { shellWord } from "./text.ts";

export interface Serving {
  info: CallOutput<"server.info">;
  addresses: readonly Place[];
  sheepdog: readonly Address[];
  http: { urls: readonly string[]; token: string | undefined; hasConsole: boolean };
}

/** Where NBD is spoken, and how. */
export interface Place {
  address: Address;
  /** There if it must be TLS. */
  tls?: UriTls;
}

export interface Asked {
  /** As given with --store. */
  store: string | undefined;
  env: Readonly<Record<string, string | undefined>>;
  /** A person reads it, and not a journal that others may read too. */
  isTerminal: boolean;
}

/** Says where the server listens and what to type next, in commands that work as printed. */
export function banner({ info, addresses, sheepdog, http }: Serving, asked: Asked): string {
  const lines = [`Kelpie ${info.version} serves ${info.store}\n`];
  const places = addresses.map(({ address, tls }) => {
    return `  NBD on ${formatAddress(address)}${tls === undefined ? "" : ", in TLS"}\n`;
  });
  lines.push(
    places.length === 0 ? "  without NBD: commands cannot read or write\n" : places.join(""),
  );
  for (const address of sheepdog) lines.push(`  Sheepdog on ${formatAddress(address)}\n`);
  for (const url of http.urls) {
    const token = asked.isTerminal && http.hasConsole ? `/#token=${http.token}` : "";
    lines.push(`  ${http.hasConsole ? "Console" : "HTTP API"} on ${url}${token}\n`);
  }
  lines.push(`\nMake a disk:\n  npx kelpie ${storeOption(asked)}vdi create disk1 10G\n`);
  const reachable = addresses.filter(isReachable);
  // Faster than TCP, and surely this server and not another one.
  const place = reachable.find(({ address }) => address.kind === "unix") ?? reachable[0];
  if (place?.tls !== undefined) {
    const uri = shellWord(formatNbdUri({ ...place, exportName: "disk1" }));
    lines.push(`\nLook at it:\n  nbdinfo ${uri}\n`);
  } else if (place !== undefined) {
    const { address } = place;
    const uri = shellWord(formatNbdUri({ address, exportName: "disk1" }));
    lines.push(`\nLook at it, and boot a virtual machine with it:
  qemu-img info ${uri}
  qemu-system-x86_64 -m 1G \\
    -blockdev ${shellWord(blockdev(address))} \\
    -device virtio-blk-pci,drive=disk1
`);
  }
  lines.push("\nCtrl-C stops it; nothing written is lost.\n");
  return lines.join("");
}

/** A socket whose path is too long can be had by Kelpie's own commands only. */
function isReachable({ address }: Place): boolean {
  return address.kind === "tcp" || Buffer.byteLength(address.path) <= socketPathBytesMax;
}

/** Nothing, if the next command finds the store by itself. */
function storeOption({ store, env }: Asked): string {
  if (store === undefined || env.KELPIE_STORE === store || store === defaultStore) return "";
  return `--store ${shellWord(store)} `;
}

/** A comma in a value of QEMU's option syntax is doubled. */
function blockdev(address: Address): string {
  const server =
    address.kind === "unix"
      ? `server.type=unix,server.path=${address.path.replaceAll(",", ",,")}`
      : `server.type=inet,server.host=${address.host},server.port=${address.port}`;
  return `driver=nbd,node-name=disk1,${server},export=disk1,discard=unmap`;
}
