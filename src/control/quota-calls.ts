import type { ControlParts, Handlers } from "./control.ts";

export function quotaCalls({ vdis }: ControlParts): Handlers<"quota.set" | "quota.list"> {
  return {
    "quota.set": async ({ pattern, limitBytes }) => {
      await vdis.note([{ type: "quota", pattern, limitBytes }]);
      return {};
    },
    "quota.list": async () => vdis.volumes.quotas.list(),
  };
}
