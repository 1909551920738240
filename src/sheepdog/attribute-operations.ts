import type { AttributeRequest } from "../vdi/objects/objects.ts";
import type { Answer, Call, OperationParts } from "./operation.ts";
import { decodeAttribute } from "./wire-attribute.ts";
import { requestFlag } from "./wire-opcodes.ts";
import { encodeVdiAnswer } from "./wire-response.ts";

/** Gets, sets or deletes, by the flags. Where the value is, the client reads itself. */
export async function getVdiAttribute(call: Call, { objects }: OperationParts): Promise<Answer> {
  const { name, tag, snapId, key, value } = decodeAttribute(call.payload);
  const selector = { name, tag, snapId };
  const mode = modeOf(call.prefix.flags);
  const { attrId, nameHash } = await objects.attribute({ selector, key, value, mode });
  const { copies } = objects.defaults;
  return {
    fill: (bytes, at) => {
      encodeVdiAnswer(bytes, at, { vid: nameHash, attributeId: attrId, copies });
    },
  };
}

function modeOf(flags: number): AttributeRequest["mode"] {
  if ((flags & requestFlag.attributeDelete) !== 0) return "delete";
  if ((flags & requestFlag.attributeExclusive) !== 0) return "exclusive";
  return (flags & requestFlag.attributeCreate) !== 0 ? "set" : "get";
}
