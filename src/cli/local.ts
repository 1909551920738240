import { openLocalStore } from "../control/local-store.ts";
import { defaultKeepDiscarded } from "../vdi/retention.ts";
import type { OpenLocal } from "./context.ts";

/** Opens the store in this process. */
export const openLocal: OpenLocal = async (url, options) => {
  const { host, create, acceptDamage = false, keepDiscarded = {}, lock = false } = options;
  const { ms, fraction } = keepDiscarded;
  return await openLocalStore(
    {
      directory: url,
      create,
      acceptDamage,
      lock,
      keepDiscarded: {
        ageMs: ms ?? defaultKeepDiscarded.ageMs,
        share: fraction ?? defaultKeepDiscarded.share,
      },
    },
    { host },
  );
};
