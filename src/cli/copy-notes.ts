import { createHash } from "node:crypto";
import { encodeUtf8 } from "../base/bytes.ts";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import { type CopyNotes, type CopyState, copyState, noCopyNotes } from "../control/copy-state.ts";
import { cacheDirectory } from "./cluster-store.ts";
import type { CliContext } from "./context.ts";

/**
 * Keeps how far a copy has come in a file of the user's cache directory, so that the same command goes on
 * where it was. Without such a directory a copy cannot be continued.
 */
export function copyNotes(context: CliContext, what: readonly string[]): CopyNotes {
  const cache = cacheDirectory(context);
  if (cache === undefined) return noCopyNotes;
  const { files } = context.host;
  const directory = `${cache}/kelpie/copies`;
  const key = createHash("sha256").update(what.join("\0")).digest("hex").slice(0, 32);
  const path = `${directory}/${key}.json`;
  return {
    async load() {
      try {
        return parse(path, await files.readFile(path));
      } catch (error) {
        if (isKelpieError(error, "not-found")) return undefined;
        throw error;
      }
    },
    async save(state) {
      await files.makeDirectory(directory, 0o700);
      const next = `${path}.new`;
      await removeIfThere(context, next);
      const handle = await files.open(next, { access: "create", permissions: 0o600 });
      try {
        await handle.write([encodeUtf8(JSON.stringify(state))], 0);
        await handle.sync();
      } finally {
        await handle.close();
      }
      // Durability: the state that is there says no more than what the store has flushed.
      await files.rename(next, path);
      await files.syncDirectory(directory);
    },
    remove: () => removeIfThere(context, path),
  };
}

async function removeIfThere({ host }: CliContext, path: string): Promise<void> {
  try {
    await host.files.remove(path);
  } catch (error) {
    if (!isKelpieError(error, "not-found")) throw error;
  }
}

function parse(path: string, bytes: Uint8Array): CopyState {
  try {
    return copyState.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    throw new KelpieError("corrupt", `${path}: it does not say how far the copy has come`, {
      cause: error,
      remedy: "remove it, delete what was copied, and begin again",
    });
  }
}
