import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Files } from "../host/files.ts";
import type { RandomSource } from "../host/random.ts";

/** Enough that nobody guesses it, however often they may try. */
const tokenBytes = 32;

/**
 * The token of a store: what is in its file, which is made if there is none. Only the owner of the store
 * may read it. Removing the file makes the next server make another one.
 */
export async function loadToken(
  path: string,
  { files, random }: { files: Files; random: RandomSource },
): Promise<string> {
  try {
    return checked(path, await files.readFile(path));
  } catch (error) {
    ignoreMissing(error);
  }
  const token = Buffer.from(random.bytes(tokenBytes)).toString("base64url");
  // Under another name until it is whole: a crash must not leave half a token.
  const next = `${path}.new`;
  await files.remove(next).catch(ignoreMissing);
  const handle = await files.open(next, { access: "create", permissions: 0o600 });
  try {
    await handle.write([Buffer.from(`${token}\n`)], 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await files.rename(next, path);
  return token;
}

function ignoreMissing(error: unknown): void {
  if (!isKelpieError(error, "not-found")) throw error;
}

function checked(path: string, bytes: Uint8Array): string {
  const token = Buffer.from(bytes).toString().trim();
  if (/^[A-Za-z0-9_-]{32,256}$/.test(token)) return token;
  throw new KelpieError("invalid", `${path}: it is not a token`, {
    remedy: "remove it: the server makes a new one when it starts",
  });
}
