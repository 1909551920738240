import type { Completion } from "../base/completion.ts";
import type { Objects } from "../vdi/objects/objects.ts";
import { payloadBytesMax } from "./limits.ts";
import { result } from "./results.ts";
import { opcode, requestFlag } from "./wire-opcodes.ts";
import type { ObjectFields, RequestPrefix } from "./wire-request.ts";

/** The result for a request that cannot be right; 0 lets it pass. Throws what `sizeOf` throws. */
export function refusalOf(
  prefix: Readonly<RequestPrefix>,
  { oid, copyFrom, offset }: ObjectFields,
  objects: Objects,
): number {
  const { opcode: operation, flags, dataLength } = prefix;
  if (oid === undefined || dataLength > payloadBytesMax) return result.invalidParameters;
  const hasPayload = (flags & requestFlag.write) !== 0;
  const isRead = operation === opcode.readObject;
  if (!isRead && operation !== opcode.writeObject && operation !== opcode.createAndWriteObject) {
    return 0;
  }
  // A reply to a request with a payload has none, and one without moves nothing here.
  if (isRead ? hasPayload : dataLength > 0 && !hasPayload) return result.invalidParameters;
  const isCopy = operation === opcode.createAndWriteObject && isCopyOnWrite(flags);
  if (isCopy && copyFrom === undefined) return result.invalidParameters;
  return offset + dataLength > objects.sizeOf(oid) ? result.invalidParameters : 0;
}

/** Everything but a read. What passed `refusalOf`. */
export function changeObject(
  prefix: Readonly<RequestPrefix>,
  { oid, copyFrom, offset }: ObjectFields,
  { objects, payload }: { objects: Objects; payload: readonly Uint8Array[] },
): Completion<void> {
  if (oid === undefined) return; // refused before
  switch (prefix.opcode) {
    case opcode.writeObject:
      return objects.write(oid, offset, payload);
    case opcode.createAndWriteObject: {
      const isCopy = isCopyOnWrite(prefix.flags) && copyFrom !== undefined;
      const create = { offset, chunks: payload };
      return objects.create(oid, isCopy ? { ...create, cow: copyFrom } : create);
    }
    case opcode.removeObject:
      return objects.remove(oid);
    case opcode.discardObject:
      return objects.discard(oid);
    default: // the one that is left: FLUSH_VDI
      return objects.flush(oid.vid);
  }
}

function isCopyOnWrite(flags: number): boolean {
  return (flags & requestFlag.copyOnWrite) !== 0;
}
