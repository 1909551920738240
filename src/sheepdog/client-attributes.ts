import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { RemoteSelector, SheepdogClient } from "./client.ts";
import { isRefused, LostAnswerError } from "./client-errors.ts";
import { resentMax } from "./client-limits.ts";
import { result } from "./results.ts";
import { attributeBytes, decodeAttribute, encodeAttribute } from "./wire-attribute.ts";
import { opcode, requestFlag } from "./wire-opcodes.ts";
import { encodeVdiRequest } from "./wire-request.ts";
import { decodeVdiAnswer } from "./wire-response.ts";
import { nameBytes } from "./wire-text.ts";

/** An attribute of a disk: a key of up to 255 bytes. */
export interface AttributeName {
  selector: RemoteSelector;
  key: string;
}

/** `exclusive`: fails with "exists" if there is one already; so it can serve as a lock. */
export async function setAttribute(
  client: SheepdogClient,
  name: AttributeName,
  options: { value: Uint8Array; exclusive: boolean; nowMs: number },
): Promise<void> {
  const { value, exclusive, nowMs } = options;
  const flags = requestFlag.attributeCreate | (exclusive ? requestFlag.attributeExclusive : 0);
  await ask(client, name, { flags, value, nowMs, once: exclusive });
}

export async function deleteAttribute(client: SheepdogClient, name: AttributeName): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await ask(client, name, { flags: requestFlag.attributeDelete, once: true });
      return;
    } catch (error) {
      if (attempt > 1 && isKelpieError(error, "not-found")) return; // the one whose answer was lost did it
      if (!(error instanceof LostAnswerError) || attempt === resentMax) throw error;
    }
  }
}

/** Throws "not-found" if there is none of that key. */
export async function getAttribute(
  client: SheepdogClient,
  name: AttributeName,
): Promise<Uint8Array> {
  const { vid, attributeId } = await ask(client, name, { flags: 0 });
  const bytes = new Uint8Array(attributeBytes);
  await client.readObject({ kind: "attribute", vid, index: attributeId }, 0, bytes);
  return decodeAttribute(bytes).value;
}

async function ask(
  client: SheepdogClient,
  { selector, key }: AttributeName,
  how: { flags: number; value?: Uint8Array; nowMs?: number; once?: boolean },
) {
  const { name, tag = "", snapId = 0 } = selector;
  const keyBytes = Buffer.byteLength(key);
  if (keyBytes === 0 || keyBytes >= nameBytes) {
    throw new KelpieError("invalid", `a key has 1 to ${nameBytes - 1} bytes, not ${keyBytes}`);
  }
  const value = how.value ?? new Uint8Array(0);
  const attribute = { name, tag, snapId, key, value, createdMs: how.nowMs ?? 0 };
  const what = `attribute "${key}" of "${name}"`;
  try {
    const answer = await client.call(
      what,
      {
        opcode: opcode.getVdiAttribute,
        flags: how.flags,
        encode: (prefix) => encodeVdiRequest(prefix, { snapId }),
        payload: [encodeAttribute(attribute)],
      },
      { once: how.once === true },
    );
    return decodeVdiAnswer(answer.header, 0);
  } catch (error) {
    if (!isRefused(error, result.noObject)) throw error;
    throw new KelpieError("not-found", `${what}: there is none`, { cause: error });
  }
}
