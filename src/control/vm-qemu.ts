import type { Address } from "../host/net.ts";
import { reconnectDelayS } from "./vm-monitor.ts";
import type { VmEntry } from "./vm-shapes.ts";

/** What starts a VM. */
export const qemuProgram = "qemu-system-x86_64";

/** The first is much faster, and not usable everywhere. */
export const accelerators = ["kvm", "tcg"] as const;
export type Accelerator = (typeof accelerators)[number];

/** The sockets of a VM that Kelpie starts, in its directory. */
export const vmSockets = {
  monitor: "qmp.sock",
  serial: "serial.sock",
  agent: "agent.sock",
} as const;

/**
 * QEMU's command line. What the user gives takes the place of what is chosen here: an accelerator, a
 * network through QEMU itself, no display. It begins standing still, and goes into the background when
 * its monitor listens.
 */
export function qemuArguments(vm: VmEntry, server: Address, accelerator: Accelerator): string[] {
  const { launch, directory, name, disks } = vm;
  const own = launch?.arguments ?? [];
  const unless = (options: readonly string[], args: string[]): string[] =>
    own.some((arg) => options.includes(arg.replace(/^--/, "-"))) ? [] : args;
  const socket = (file: string): string => `${escaped(`${directory}/${file}`)},server=on,wait=off`;
  return [
    ...["-name", `guest=${name}`, "-m", launch?.memory ?? "1G"],
    ...(choosesAccelerator(own) ? [] : ["-accel", accelerator]),
    ...unless(["-cpu"], ["-cpu", "max"]),
    ...unless(["-display", "-nographic", "-vnc", "-spice"], ["-display", "none"]),
    ...unless(["-nic", "-netdev", "-net"], ["-nic", "user,model=virtio-net-pci"]),
    ...["-qmp", `unix:${socket(vmSockets.monitor)}`],
    ...["-serial", `unix:${socket(vmSockets.serial)}`],
    ...["-monitor", "none", "-parallel", "none"],
    ...["-device", "virtio-serial-pci,id=kelpie-agent-bus"],
    ...["-chardev", `socket,id=kelpie-agent,path=${socket(vmSockets.agent)}`],
    ...["-device", "virtserialport,chardev=kelpie-agent,name=org.qemu.guest_agent.0"],
    ...disks.flatMap((disk, index) => diskArguments(disk, index, server)),
    ...["-S", "-daemonize", "-pidfile", `${directory}/qemu.pid`],
    ...own,
  ];
}

/** The user has said it. */
export function choosesAccelerator(args: readonly string[]): boolean {
  return args.some((arg) => /^--?(accel|enable-kvm|machine|M)$/.test(arg));
}

function diskArguments(disk: string, index: number, server: Address): string[] {
  const node = `kelpie-disk-${index}`;
  const blockdev = {
    driver: "nbd",
    "node-name": node,
    server:
      server.kind === "unix"
        ? { type: "unix", path: server.path }
        : { type: "inet", host: server.host, port: String(server.port) },
    export: disk,
    "reconnect-delay": reconnectDelayS,
    discard: "unmap",
  };
  const device = `virtio-blk-pci,drive=${node},bootindex=${index + 1}`;
  return ["-blockdev", JSON.stringify(blockdev), "-device", device];
}

/** QEMU ends an option's value at a comma, unless it is written twice. */
function escaped(value: string): string {
  return value.replaceAll(",", ",,");
}
