import assert from "node:assert/strict";
import type { Scratch, ServerProcess } from "../support/server-process.ts";
import { requireTool, runTool } from "../support/tools.ts";
import { linuxArguments, requireGuest, TestVm } from "./guests.ts";

/** For a test's `skip`: false when there is all that a Linux guest with file systems needs. */
export function requireLinux(): string | false {
  return (
    requireTool("qemu-system-x86_64", "qemu-system-x86") ||
    requireTool("mkfs.ext4", "e2fsprogs") ||
    requireGuest()
  );
}

/** The Linux guest with two ext4 disks, "root" on /a and "data" on /b. */
export async function runLinux(
  server: ServerProcess,
  scratch: Scratch,
  name: string,
  more: readonly string[] = linuxArguments(),
): Promise<TestVm> {
  const disks = ["root", "data"];
  for (const disk of disks) {
    const image = scratch.file(`${disk}.raw`);
    await runTool("truncate", ["-s", "64M", image]);
    await runTool("mkfs.ext4", ["-q", "-F", image]);
    await server.ok("vdi", "import", image, disk);
  }
  const vm = await TestVm.run(server, name, { disks, more });
  await vm.line.expect(/guest ready[\s\S]*# /);
  await vm.shell("mkdir /a /b && mount /dev/vda /a && mount /dev/vdb /b");
  return vm;
}

/** Both file systems, as the guest's own e2fsck finds them; they are mounted again afterwards. */
export async function mustBeClean(vm: TestVm): Promise<void> {
  await vm.shell("umount /a && umount /b");
  for (const disk of ["vda", "vdb"]) await vm.shell(`e2fsck -fn /dev/${disk}`);
  await vm.shell("mount /dev/vda /a && mount /dev/vdb /b");
}

/** The variable, and the file on each disk as it is on the disk. */
export async function state(vm: TestVm): Promise<string[]> {
  const cached = await vm.shell("echo $state $(cat /a/file) $(cat /b/file)");
  await vm.shell("echo 3 >/proc/sys/vm/drop_caches");
  const read = await vm.shell("echo $state $(cat /a/file) $(cat /b/file)");
  assert.equal(read, cached);
  return read.trim().split(" ");
}

export async function setState(vm: TestVm, word: string): Promise<void> {
  await vm.shell(`state=${word}; echo $state >/a/file; echo $state >/b/file`);
}
