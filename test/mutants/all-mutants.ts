import { durabilityMutants } from "./durability.ts";
import { frontMutants } from "./front.ts";
import { mapMutants } from "./maps.ts";
import type { Mutant } from "./mutant.ts";
import { recoveryMutants } from "./recovery.ts";
import { unseenMutants } from "./unseen.ts";

export const allMutants: readonly Mutant[] = [
  ...durabilityMutants,
  ...recoveryMutants,
  ...mapMutants,
  ...frontMutants,
  ...unseenMutants,
];
