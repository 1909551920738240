import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { describe, test } from "node:test";
import { oldQemu, requireOldQemu } from "../support/old-qemu.ts";
import { tryTool } from "../support/tools.ts";

const headerBytes = 48;
const skip = requireOldQemu();

describe("QEMU 5.2's Sheepdog driver", () => {
  test("opens a VDI with LOCK_VDI and 512 bytes of name and tag", { skip }, async () => {
    await using server = await refusingServer();
    const uri = `sheepdog://127.0.0.1:${server.port}/x#tag`;
    const { status, stderr } = await tryTool(oldQemu("qemu-img"), ["info", uri]);

    assert.equal(status, 1);
    assert.match(stderr, /cannot get vdi info, No vdi found, x 0 tag/);
    const expected = Buffer.alloc(headerBytes + 512);
    expected.set([0x01, 0x12, 0x01, 0x00]); // Version, LOCK_VDI, flags: WRITE.
    expected.writeUInt32LE(512, 12);
    expected.write("x", headerBytes);
    expected.write("tag", headerBytes + 256);
    assert.equal(server.requests().toString("hex"), expected.toString("hex"));
  });

  test("asks for the cluster's default before it creates a VDI", { skip }, async () => {
    await using server = await refusingServer();
    const uri = `sheepdog://127.0.0.1:${server.port}/y`;
    const { status } = await tryTool(oldQemu("qemu-img"), ["create", uri, "1G"]);

    assert.equal(status, 1);
    const expected = Buffer.alloc(headerBytes);
    expected.set([0x01, 0x18]); // Version, GET_CLUSTER_DEFAULT.
    const first = server.requests().subarray(0, headerBytes);
    assert.equal(first.toString("hex"), expected.toString("hex"));
  });
});

/** Answers each request with NO_VDI and keeps the bytes of all. */
async function refusingServer() {
  const noVdi = 0x08;
  const received: Buffer[] = [];
  const server = createServer((socket) => {
    let pending = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      received.push(chunk);
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= headerBytes) {
        const hasPayload = (pending.readUInt16LE(2) & 1) !== 0;
        const length = headerBytes + (hasPayload ? pending.readUInt32LE(12) : 0);
        if (pending.length < length) return;
        const answer = Buffer.alloc(headerBytes);
        pending.copy(answer, 0, 0, 12);
        answer.writeUInt32LE(noVdi, 16);
        socket.write(answer);
        pending = pending.subarray(length);
      }
    });
    socket.on("error", () => {}); // The driver may well be gone before the answer.
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    requests: () => Buffer.concat(received),
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, "close");
    },
  };
}
