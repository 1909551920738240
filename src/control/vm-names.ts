import { KelpieError } from "../base/errors.ts";
import type { Vdis } from "../vdi/vdis.ts";

/** The VDI that a VM's memory is saved in. */
export function memoryOf(vm: string): string {
  return `${vm}.memory`;
}

/** A copy of that, while a state is loaded. */
export function copyOf(memory: string): string {
  return `${memory}.load`;
}

/** It is a directory's name, and a part of disks' names. */
export function checkVmName(name: string): void {
  if (/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,62}$/u.test(name)) return;
  throw new KelpieError("invalid", `"${name}" cannot be a VM's name`, {
    remedy: "Letters, digits, '.', '_' and '-', 63 at most.",
  });
}

export function vmExists(name: string): KelpieError {
  return new KelpieError("exists", `there is a VM "${name}" already`);
}

/** A disk of somebody's has the memory VDI's name: a VM would format it, and take it along when it goes. */
export function mustBeUnused(vdis: Vdis, memory: string, vm: string): void {
  const isUsed =
    vdis.point(memory).mappedBlocks > 0 ||
    vdis.registry.snapshotsOf(memory).length > 0 ||
    vdis.attachments.of(memory).length > 0;
  if (!isUsed) return;
  throw new KelpieError(
    "exists",
    `there is a disk "${memory}", where VM "${vm}" would keep its memory`,
    {
      remedy: "Give the VM another name.",
    },
  );
}
