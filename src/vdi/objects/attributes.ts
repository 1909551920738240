import {
  attributeHash,
  attributeValueBytesMax,
  encodeAttribute,
} from "../../sheepdog/wire-attribute.ts";
import { vdiNameHash } from "../../sheepdog/wire-hash.ts";
import type { Vdis } from "../vdis.ts";
import type { SavedAttribute } from "./object-registry.ts";
import { type AttributeRequest, ObjectError, type ObjectId } from "./objects.ts";

/** Attributes are in every checkpoint: so many of them, and so much in their values, base64. */
const attributesMax = 4096;
const charactersMax = 16 * 2 ** 20;

/**
 * Keys and values of disks. They stand under the hash of the name instead of a vid, so that they outlive
 * snapshots; at the hash of name, tag, snap id and key, or the next place that is free.
 */
export class Attributes {
  readonly #vdis: Vdis;

  constructor(components: { vdis: Vdis }) {
    this.#vdis = components.vdis;
  }

  /** The caller has looked the disk up. */
  async request(request: AttributeRequest): Promise<{ attrId: number; nameHash: number }> {
    const { selector, key, mode } = request;
    if (key === "") throw new ObjectError("invalid", "an attribute without a key");
    const { found, place } = this.#find({ ...selector, key });
    if (found !== undefined && mode === "exclusive") {
      throw new ObjectError("vdi-exists", `"${selector.name}" has an attribute "${key}" already`);
    }
    if (found === undefined && (mode === "get" || mode === "delete")) {
      throw new ObjectError("no-object", `"${selector.name}" has no attribute "${key}"`);
    }
    if (mode !== "get") {
      const value = mode === "delete" ? null : this.#encode(request.value, found);
      await this.#vdis.note([
        { type: "attribute", attribute: { ...place, ...selector, key, value } },
      ]);
    }
    return { attrId: place.attrId, nameHash: place.nameHash };
  }

  read(id: ObjectId, offset: number, target: Uint8Array): void {
    const { name, tag, snapId, key, createdMs, value } = this.#mustHave(id);
    const decoded = Buffer.from(value ?? "", "base64");
    const bytes = encodeAttribute({ name, tag, snapId, key, createdMs, value: decoded });
    if (offset + target.length > bytes.length) {
      throw new ObjectError("invalid", "bytes behind the end of an attribute");
    }
    target.set(bytes.subarray(offset, offset + target.length));
  }

  exists(id: ObjectId): boolean {
    const { objects } = this.#vdis.registry;
    return (objects.attribute(id.vid, id.index)?.value ?? null) !== null;
  }

  async remove(id: ObjectId): Promise<void> {
    const { createdMs: _, ...attribute } = this.#mustHave(id);
    await this.#vdis.note([{ type: "attribute", attribute: { ...attribute, value: null } }]);
  }

  #mustHave(id: ObjectId): SavedAttribute {
    const found = this.#vdis.registry.objects.attribute(id.vid, id.index);
    if (found !== undefined && found.value !== null) return found;
    throw new ObjectError("no-object", `there is no attribute ${id.index.toString(16)}`);
  }

  #find(wanted: { name: string; tag: string; snapId: number; key: string }): {
    found: SavedAttribute | undefined;
    place: { nameHash: number; attrId: number };
  } {
    const nameHash = vdiNameHash(wanted.name);
    const first = attributeHash(wanted);
    let free: number | undefined;
    for (let step = 0; ; step++) {
      const attrId = (first + step) % 2 ** 32;
      const at = this.#vdis.registry.objects.attribute(nameHash, attrId);
      if (at?.value === null) free ??= attrId;
      if (at === undefined) {
        return { found: undefined, place: { nameHash, attrId: free ?? attrId } };
      }
      const isSame =
        at.name === wanted.name &&
        at.tag === wanted.tag &&
        at.snapId === wanted.snapId &&
        at.key === wanted.key;
      if (isSame && at.value !== null) return { found: at, place: { nameHash, attrId } };
    }
  }

  #encode(bytes: Uint8Array = new Uint8Array(0), before: SavedAttribute | undefined): string {
    if (bytes.length > attributeValueBytesMax) {
      throw new ObjectError("invalid", `a value of ${bytes.length} bytes`);
    }
    const value = Buffer.from(bytes).toString("base64");
    const { attributes, attributeCharacters } = this.#vdis.registry.objects;
    const after = attributeCharacters + value.length - (before?.value?.length ?? 0);
    const isNew = before === undefined;
    if ((isNew && attributes.size >= attributesMax) || after > charactersMax) {
      throw new ObjectError("no-space", "this store has too many attributes");
    }
    return value;
  }
}
