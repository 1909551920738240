import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Processes } from "../host/processes.ts";
import type { CallOutput, Control } from "./calls.ts";
import { accelerators, choosesAccelerator, qemuArguments, qemuProgram } from "./vm-qemu.ts";
import type { VmEntry } from "./vm-shapes.ts";

export interface VmStartComponents {
  control: Control;
  processes: Processes;
}

export interface VmRunRequest {
  name: string;
  /** Those it has if absent. */
  disks?: readonly string[];
  /** As QEMU's -m takes it. As it was if absent, else 1G. */
  memory?: string;
  /** More of QEMU's arguments. As they were if absent. */
  arguments?: readonly string[];
  /** What relative paths in them are relative to. */
  directory: string;
  leaveOut?: readonly string[];
  share?: boolean;
}

const memoryDefault = "1G";

/**
 * Starts a VM, or starts one again that is off; resolves when its guest runs. All or nothing, but for one
 * that Kelpie had never started: it keeps what it was to be started with.
 */
export async function runVm(
  request: VmRunRequest,
  components: VmStartComponents,
): Promise<VmEntry> {
  const { control } = components;
  const { name, disks, share = false } = request;
  const before = (await control.call("vm.list", {})).find((vm) => vm.name === name);
  const launch = {
    memory: request.memory ?? before?.launch?.memory ?? memoryDefault,
    arguments: [...(request.arguments ?? before?.launch?.arguments ?? [])],
    directory:
      request.arguments === undefined && before?.launch
        ? before.launch.directory
        : request.directory,
  };
  const chosen = disks === undefined ? {} : { disks: [...disks] };
  const vm = await control.call("vm.create", { name, launch, share, ...chosen });
  const leaveOut = [...(request.leaveOut ?? before?.leftOut ?? [])];
  const undo = { before, disks: false };
  return await start(vm, { leaveOut, share, undo }, components);
}

/** A second VM that goes on from a snapshot of the first, on clones of its disks. All or nothing. */
export async function branchVm(
  request: { name: string; snapshot: string; as: string; arguments?: readonly string[] },
  components: VmStartComponents,
): Promise<VmEntry> {
  const { name, snapshot, as } = request;
  const more = request.arguments === undefined ? {} : { arguments: [...request.arguments] };
  const vm = await components.control.call("vm.branch", { name, snapshot, as, ...more });
  const undo = { before: undefined, disks: true };
  return await start(vm, { leaveOut: vm.leftOut, share: false, undo }, components);
}

interface Undo {
  /** What the VM was, if it was there. */
  before: VmEntry | undefined;
  /** A new one's disks go, too. */
  disks: boolean;
}

async function start(
  vm: VmEntry,
  options: { leaveOut: string[]; share: boolean; undo: Undo },
  { control, processes }: VmStartComponents,
): Promise<CallOutput<"vm.attach">> {
  const { name } = vm;
  const { leaveOut, share, undo } = options;
  try {
    await startQemu(vm, processes);
    return await control.call("vm.attach", { name, leaveOut, share, begin: true });
  } catch (error) {
    if (!isKelpieError(error)) throw error;
    await quietly(control.call("vm.stop", { name, force: true }));
    const { before } = undo;
    if (before === undefined) await quietly(control.call("vm.delete", { name, disks: undo.disks }));
    else if (before.launch !== null) {
      const { launch, disks } = before;
      await quietly(control.call("vm.create", { name, launch, disks, share }));
    }
    throw error;
  }
}

/** KVM may be there and not work, and QEMU finds out by dying of it: so it is tried. */
async function startQemu(vm: VmEntry, processes: Processes): Promise<void> {
  const { name, server, launch } = vm;
  if (server === null) throw new KelpieError("unsupported", "the disks are not served over NBD");
  const options = launch === null ? {} : { directory: launch.directory };
  const isChosen = choosesAccelerator(launch?.arguments ?? []);
  let said = "";
  for (const accelerator of isChosen ? accelerators.slice(0, 1) : accelerators) {
    const args = qemuArguments(vm, server, accelerator);
    const { exitCode, stderr, stdout } = await run(processes, args, options);
    if (exitCode === 0) return;
    said = (stderr + stdout).trim() || `exit ${exitCode}`;
  }
  const end = said.split("\n").slice(-linesMax).join("\n");
  throw new KelpieError("io", `QEMU of VM "${name}" did not start: ${end}`);
}

/** Of a complaint, the end says what was in the way. */
const linesMax = 5;

async function run(processes: Processes, args: string[], options: { directory?: string }) {
  try {
    return await processes.run(qemuProgram, args, options);
  } catch (error) {
    if (!isKelpieError(error, "not-found")) throw error;
    throw new KelpieError("not-found", `${qemuProgram} is not installed`, {
      cause: error,
      remedy: "On Debian it is in the package qemu-system-x86.",
    });
  }
}

/** What it was undone for is the error that counts. */
async function quietly(work: Promise<unknown>): Promise<void> {
  await work.catch((error) => {
    if (!isKelpieError(error)) throw error;
  });
}
