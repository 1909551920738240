import { z } from "zod";
import { KelpieError } from "../base/errors.ts";
import { type VmRecord, type VmSnapshot, vmRecord } from "./vm-record.ts";

export const vmsSaved = z.array(vmRecord);

/** The virtual machines that the catalog's notes made. */
export class VmRegistry {
  readonly #records = new Map<string, VmRecord>();
  /** By the point of each disk's snapshot. */
  readonly #byPoint = new Map<number, { vm: string; snapshot: VmSnapshot }>();

  load(records: readonly VmRecord[]): void {
    for (const record of records) this.set(record);
  }

  save(): VmRecord[] {
    return [...this.#records.values()];
  }

  set(record: VmRecord): void {
    this.forget(record.name);
    this.#records.set(record.name, record);
    for (const snapshot of record.snapshots) {
      for (const { point } of snapshot.disks) {
        this.#byPoint.set(point, { vm: record.name, snapshot });
      }
    }
  }

  forget(name: string): void {
    const before = this.#records.get(name);
    if (before === undefined) return;
    this.#records.delete(name);
    for (const { disks } of before.snapshots) {
      for (const { point } of disks) this.#byPoint.delete(point);
    }
  }

  /** By name. */
  all(): VmRecord[] {
    return [...this.#records.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get(name: string): VmRecord | undefined {
    return this.#records.get(name);
  }

  /** Throws "not-found". */
  find(name: string): VmRecord {
    const record = this.#records.get(name);
    if (record !== undefined) return record;
    throw new KelpieError("not-found", `there is no VM "${name}"`, {
      remedy: "`kelpie vm list` shows the VMs.",
    });
  }

  /** The VM snapshot that a disk's snapshot belongs to. */
  ofPoint(point: number): { vm: string; snapshot: VmSnapshot } | undefined {
    return this.#byPoint.get(point);
  }

  /** The VM that has a disk, or keeps its memory in it. */
  ofDisk(name: string): VmRecord | undefined {
    return this.all().find(({ disks, memory }) => memory === name || disks.includes(name));
  }
}
