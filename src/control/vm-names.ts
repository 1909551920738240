import { KelpieError } from "../base/errors.ts";

/** The VDI that a VM's memory is saved in. */
export function memoryOf(vm: string): string {
  return `${vm}.memory`;
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
