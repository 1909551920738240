import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { requireTool } from "../../test/support/tools.ts";
import { detectImageFormat, headBytes, tailBytes } from "./image-format.ts";

function detect(head: Buffer, tail = Buffer.alloc(tailBytes)) {
  return detectImageFormat(head, tail);
}

function at(offset: number, text: string): Buffer {
  const bytes = Buffer.alloc(headBytes);
  bytes.write(text, offset, "latin1");
  return bytes;
}

test("each foreign format is told by its magic", () => {
  const examples: [Buffer, string | undefined, string | undefined][] = [
    [at(0, "QFI\xfb\0\0\0\x03"), "qcow2", "qcow2"],
    [at(0, "QFI\xfb\0\0\0\x01"), "qcow", "qcow"],
    [at(0, "QED\0"), "QED", "qed"],
    [at(0, "KDMV"), "VMDK", "vmdk"],
    [at(0, "COWD"), "VMDK", "vmdk"],
    [at(0, "# Disk DescriptorFile\nversion=1"), "VMDK (its descriptor)", "vmdk"],
    [at(0, "vhdxfile"), "VHDX", "vhdx"],
    [at(0, "conectix"), "VHD", "vpc"],
    [at(0x40, "\x7f\x10\xda\xbe"), "VDI", "vdi"],
    [at(0, "WithoutFreeSpace"), "Parallels", "parallels"],
  ];
  for (const [head, name, qemu] of examples) {
    assert.deepEqual([detect(head)?.name, detect(head)?.qemu], [name, qemu]);
  }
});

test("a fixed VHD is told by its last sector alone", () => {
  const footer = Buffer.alloc(tailBytes);
  footer.write("conectix");
  footer.writeBigUInt64BE(3n * 2n ** 30n, 48);
  assert.deepEqual(detect(Buffer.alloc(headBytes), footer), {
    name: "VHD",
    qemu: "vpc",
    unpack: undefined,
    virtualBytes: 3 * 2 ** 30,
  });
});

test("compressed files come with the program that unpacks them", () => {
  assert.equal(detect(at(0, "\x1f\x8b\x08"))?.unpack, "gzip");
  assert.equal(detect(at(0, "\xfd7zXZ\0"))?.unpack, "xz");
  assert.equal(detect(at(0, "\x28\xb5\x2f\xfd"))?.unpack, "zstd");
  assert.equal(detect(at(0, "BZh9"))?.unpack, "bzip2");
});

test("what a raw disk may begin with is raw", () => {
  const boot = at(510, "\x55\xaa");
  for (const head of [boot, at(0, "LUKS\xba\xbe"), at(512, "EFI PART"), at(1080, "\x53\xef")]) {
    assert.equal(detect(head), undefined);
  }
  assert.equal(detectImageFormat(new Uint8Array(0), new Uint8Array(0)), undefined);
  assert.equal(detectImageFormat(Buffer.from("QF"), Buffer.from("QF")), undefined);
});

test("a damaged header still has its format, without a size", () => {
  const head = at(0, "QFI\xfb\0\0\0\x03");
  head.writeBigUInt64BE(2n ** 63n, 24);
  assert.deepEqual([detect(head)?.name, detect(head)?.virtualBytes], ["qcow2", undefined]);
  assert.equal(detect(head.subarray(0, 10))?.virtualBytes, undefined);
  const vmdk = at(0, "KDMV");
  vmdk.writeBigUInt64LE(2n ** 49n, 12); // sectors
  assert.deepEqual([detect(vmdk)?.name, detect(vmdk)?.virtualBytes], ["VMDK", undefined]);
});

const formats = ["qcow2", "qed", "vmdk", "vdi", "vpc", "vhdx", "qcow", "parallels"];
test("images that qemu-img makes are recognised, with their size", {
  skip: requireTool("qemu-img", "qemu-utils"),
}, (t) => {
  const directory = mkdtempSync(join(tmpdir(), "kelpie-formats-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  for (const format of formats) {
    const path = join(directory, format);
    execFileSync("qemu-img", ["create", "-q", "-f", format, path, "24M"]);
    const bytes = readFileSync(path);
    const found = detect(bytes.subarray(0, headBytes), bytes.subarray(-tailBytes));
    assert.equal(found?.qemu, format);
    // A VHD rounds its size to a geometry; VHDX and Parallels hide theirs.
    if (["vhdx", "parallels"].includes(format)) continue;
    const { "virtual-size": size } = JSON.parse(
      execFileSync("qemu-img", ["info", "--output=json", "-f", format, path]).toString(),
    );
    assert.equal(found?.virtualBytes, size, format);
  }
});
