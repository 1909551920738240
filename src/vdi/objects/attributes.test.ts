import assert from "node:assert/strict";
import { test } from "node:test";
import { openMemoryObjects, select } from "../../../test/support/memory-objects.ts";
import { decodeAttribute } from "../../sheepdog/wire-attribute.ts";
import type { AttributeRequest } from "./objects.ts";

const mebibyte = 2 ** 20;

function request(mode: AttributeRequest["mode"], key: string, value?: string): AttributeRequest {
  const bytes = value === undefined ? {} : { value: Buffer.from(value) };
  return { selector: select("test"), key, mode, ...bytes };
}

test("an attribute is set, read as an object, set once, and deleted", async () => {
  const { vdis, objects, files } = await openMemoryObjects();
  await assert.rejects(objects.attribute(request("set", "key", "v")), { refusal: "no-vdi" });
  await vdis.create("test", mebibyte);
  await assert.rejects(objects.attribute(request("get", "key")), { refusal: "no-object" });
  await assert.rejects(objects.attribute(request("delete", "key")), { refusal: "no-object" });
  const where = await objects.attribute(request("set", "key", "value"));
  assert.deepEqual(where, { attrId: 0x972882c4, nameHash: 0x7c2b25 });
  await objects.attribute(request("set", "key", "other"));
  await assert.rejects(objects.attribute(request("exclusive", "key", "x")), {
    refusal: "vdi-exists",
  });
  await objects.attribute(request("exclusive", "lock", "me"));
  await vdis.store.checkpoint();
  await vdis.snapshot(["test"], "s");
  const again = await openMemoryObjects(files.crashKeepingNothing());
  assert.deepEqual(await again.objects.attribute(request("get", "key")), where);
  const id = { kind: "attribute" as const, vid: where.nameHash, index: where.attrId };
  const bytes = Buffer.alloc(again.objects.sizeOf(id));
  await again.objects.read(id, 0, bytes);
  const { name, key, value } = decodeAttribute(bytes);
  assert.deepEqual([name, key, Buffer.from(value).toString()], ["test", "key", "other"]);
  await again.objects.attribute(request("delete", "key"));
  await assert.rejects(again.objects.attribute(request("get", "key")), { refusal: "no-object" });
  assert.throws(() => void again.objects.read(id, 0, bytes), { refusal: "no-object" });
  assert.equal(await again.objects.exists(id), false);
  const { attributes, attributeCharacters } = again.vdis.registry.objects;
  assert.deepEqual([attributes.size, attributeCharacters], [1, 4]);
  await again.vdis.close();
});

test("two attributes with one hash stand one behind the other, also when the first is gone", async () => {
  const { vdis, objects } = await openMemoryObjects();
  await vdis.create("test", mebibyte);
  // Somebody else's stands where this one's would.
  const other = { name: "test", tag: "", snapId: 0, key: "colliding", value: "eA==" };
  const place = { nameHash: 0x7c2b25, attrId: 0x972882c4 };
  await vdis.note([{ type: "attribute", attribute: { ...other, ...place } }]);
  const { attrId } = await objects.attribute(request("set", "key", "v"));
  assert.equal(attrId, 0x972882c5);
  await objects.remove({ kind: "attribute", vid: place.nameHash, index: place.attrId });
  assert.equal((await objects.attribute(request("get", "key"))).attrId, attrId);
  await objects.attribute(request("set", "key", "w"));
  assert.equal((await objects.attribute(request("get", "key"))).attrId, attrId);
  await vdis.close();
});

test("attributes have a limit", async () => {
  const { vdis, objects } = await openMemoryObjects();
  await vdis.create("test", mebibyte);
  await assert.rejects(objects.attribute(request("set", "")), { refusal: "invalid" });
  const large = { ...request("set", "k"), value: Buffer.alloc(65_537) };
  await assert.rejects(objects.attribute(large), { refusal: "invalid" });
  vdis.registry.objects.attributeCharacters = 16 * 2 ** 20;
  await assert.rejects(objects.attribute(request("set", "k", "v")), { refusal: "no-space" });
  await vdis.close();
});
