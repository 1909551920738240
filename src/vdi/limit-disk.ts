import type { Qos } from "./qos.ts";
import type { Vdis } from "./vdis.ts";

/** How fast a disk may be used from now on, also by who has it open; null: as fast as it goes. */
export function limitDisk(vdis: Vdis, name: string, qos: Qos | null): Promise<void> {
  return vdis.locks.run([name], async () => {
    vdis.registry.find(name);
    await vdis.note([{ type: "qos", name, qos }]);
    vdis.volumes.limit(name);
  });
}
