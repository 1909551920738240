import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Backend } from "./backend/backend.ts";
import {
  decodeIdentity,
  encodeIdentity,
  formatVersion,
  type Identity,
} from "./formats/identity.ts";
import { catalogPrefix, identityKey } from "./keys.ts";

/** The store's own, which is made if there is none and that is wanted. */
export async function openIdentity(
  settings: { directory: string; create: boolean },
  components: { backend: Backend; host: Host },
): Promise<Identity> {
  const { backend, host } = components;
  try {
    return decodeIdentity(await backend.get(identityKey), identityKey);
  } catch (error) {
    if (!isKelpieError(error, "not-found")) throw error;
  }
  const [record] = await backend.list(catalogPrefix);
  if (record !== undefined) {
    throw new KelpieError(
      "corrupt",
      `${settings.directory} has ${record} but no "${identityKey}"`,
      {
        remedy: "Restore that file from a backup; without it the formats are not known.",
      },
    );
  }
  if (!settings.create) {
    throw new KelpieError("not-found", `there is no store in ${settings.directory}`);
  }
  const identity: Identity = {
    id: Buffer.from(host.random.bytes(16)).toString("hex"),
    format: formatVersion,
    createdMs: host.clock.nowMs(),
    incompatible: [],
    readCompatible: [],
    compatible: [],
  };
  await backend.putIfAbsent(identityKey, encodeIdentity(identity));
  return decodeIdentity(await backend.get(identityKey), identityKey);
}
