import { openLocalStore } from "../control/local-store.ts";
import { defaultKeepDiscarded } from "../vdi/retention.ts";
import type { OpenLocal } from "./context.ts";

/** Opens the store in this process. */
export const openLocal: OpenLocal = async (url, { host, create, keepDiscarded = {} }) => {
  const { ms, fraction } = keepDiscarded;
  return await openLocalStore(
    {
      directory: url,
      create,
      keepDiscarded: {
        ageMs: ms ?? defaultKeepDiscarded.ageMs,
        share: fraction ?? defaultKeepDiscarded.share,
      },
    },
    { host },
  );
};
