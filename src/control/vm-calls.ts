import type { VmRecord, VmSnapshot } from "../vdi/vm-record.ts";
import type { CallName } from "./calls.ts";
import type { ControlParts, Handlers } from "./control.ts";
import { VmCommands } from "./vm-commands.ts";
import type { VmEntry, VmSnapshotEntry } from "./vm-shapes.ts";

type VmCall = Extract<CallName, `vm.${string}`>;

export function vmCalls({ vdis, vms }: ControlParts): Handlers<VmCall> {
  const { registry } = vdis;
  const entry = async (name: string): Promise<VmEntry> => {
    const record = registry.vms.find(name);
    return entryOf(record, {
      state: await vms.stateOf(record),
      directory: vms.directoryOf(name),
      server: vms.server ?? null,
    });
  };
  const snapshots = (name: string): VmSnapshotEntry[] => {
    const record = registry.vms.find(name);
    return record.snapshots.map((snapshot) => snapshotEntry(snapshot, record));
  };
  const snapshotOf = (name: string, id: number): VmSnapshotEntry => {
    return snapshots(name).find((one) => one.id === id) as VmSnapshotEntry;
  };
  const snapshotEntry = (snapshot: VmSnapshot, record: VmRecord): VmSnapshotEntry => {
    const { image: _image, disks, ...plain } = snapshot;
    return {
      ...plain,
      current: record.current === snapshot.id,
      disks: disks.flatMap(({ name, point }) => {
        const snapId = registry.snapshotAt(point)?.snapId;
        return snapId === undefined ? [] : [{ name, snapId }];
      }),
    };
  };
  const handlers: Handlers<VmCall> = {
    "vm.list": async () => {
      const records = registry.vms.all();
      return await Promise.all(records.map(({ name }) => entry(name)));
    },
    "vm.create": async ({ name, disks, launch, share }) => {
      await vms.create(name, { disks, launch, share });
      return await entry(name);
    },
    "vm.attach": async ({ name, ...request }) => {
      await vms.attach(name, request);
      return await entry(name);
    },
    "vm.savevm": async ({ name, tag, replace }, { progress }) => {
      const { id, ...took } = await vms.save(name, { tag, replace }, progress);
      return { snapshot: snapshotOf(name, id), ...took };
    },
    "vm.loadvm": async ({ name, snapshot }, { progress }) => {
      const { id, ...took } = await vms.load(name, snapshot, progress);
      return { snapshot: snapshotOf(name, id), ...took };
    },
    "vm.delvm": async ({ name, snapshot }) => {
      const record = registry.vms.find(name);
      return { deleted: snapshotEntry(await vms.deleteSnapshot(name, snapshot), record) };
    },
    "vm.snapshots": async ({ name }) => snapshots(name),
    "vm.branch": async ({ name, snapshot, as, arguments: more }) => {
      await vms.branch(name, snapshot, as, more);
      return await entry(as);
    },
    "vm.command": async ({ name, line }, context) => ({
      output: await commands.run(name, line, context),
    }),
    "vm.stop": async ({ name, force, timeoutMs }) => ({
      stopped: await vms.stop(name, { force, timeoutMs }),
    }),
    "vm.delete": async ({ name, disks }) => {
      await vms.delete(name, disks);
      return { deleted: 1 };
    },
  };
  const commands = new VmCommands({ vms, handlers });
  return handlers;
}

function entryOf(record: VmRecord, more: Pick<VmEntry, "state" | "directory" | "server">): VmEntry {
  const { name, disks, leftOut, memory, monitor, agent, launch, current, snapshots } = record;
  return {
    name,
    disks,
    leftOut,
    memory,
    monitor,
    agent: agent ?? null,
    launch,
    snapshots: snapshots.length,
    current: snapshots.find(({ id }) => id === current)?.tag ?? null,
    ...more,
  };
}
