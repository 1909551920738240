import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FakeS3 } from "../../../test/support/fake-s3.ts";
import { isKelpieError } from "../../base/errors.ts";
import { createNodeHost } from "../../host/node/node-host.ts";
import { openS3ObjectStore } from "../../host/node/s3-object-store.ts";
import { checkBucket } from "./attach.ts";

const host = createNodeHost({ logLevel: "silent" });

function objectsOf(
  server: FakeS3,
  other: { bucket?: string; accessKey?: string; timeoutMs?: number } = {},
) {
  const { bucket = server.bucket, accessKey = server.accessKey, timeoutMs = 20_000 } = other;
  return openS3ObjectStore({
    bucket,
    prefix: "",
    endpoint: server.endpoint,
    region: "us-east-1",
    pathStyle: true,
    credentials: { accessKeyId: accessKey, secretAccessKey: "secret" },
    timeoutMs,
  });
}

describe("looking at a bucket before it is used", () => {
  it("puts one key 32 times at once, sees one winner, and leaves nothing", async () => {
    await using server = await FakeS3.start();
    await checkBucket(objectsOf(server), host);
    assert.equal(server.count("PUT"), 32);
    assert.equal(server.requests.filter(({ status }) => status === 412).length, 31);
    assert.equal(server.objects.size, 0);
  });

  it("refuses a server that lets more than one of them win", async () => {
    await using server = await FakeS3.start();
    server.ignoresConditions = true;
    await says(/of 32 puts of one key at once 32 succeeded/, checkBucket(objectsOf(server), host));
  });

  it("accepts one of which some answers are lost", async () => {
    await using server = await FakeS3.start();
    server.fail("lose the answer", { method: "PUT", times: 3 });
    server.fail("do it, answer 409", { method: "PUT", times: 3 });
    await checkBucket(objectsOf(server), host);
  });

  it("says that credentials are wrong", async () => {
    await using server = await FakeS3.start();
    const objects = objectsOf(server, { accessKey: "AKIAWRONG" });
    await says(/the credentials are not accepted/, checkBucket(objects, host));
  });

  it("says that there is no such bucket", async () => {
    await using server = await FakeS3.start();
    const objects = objectsOf(server, { bucket: "none" });
    await says(/s3:\/\/none: there is no such bucket/, checkBucket(objects, host));
  });

  it("says that the clock is off", async () => {
    await using server = await FakeS3.start();
    server.clockIsOff = true;
    await says(/the clock of this machine is off/, checkBucket(objectsOf(server), host));
  });

  it("says that nobody answers, after a few attempts", async () => {
    await using server = await FakeS3.start();
    const objects = objectsOf(server);
    await server.stop();
    await says(/does not answer: ECONNREFUSED/, checkBucket(objects, host));
  });

  it("says that an endpoint is silent", async () => {
    await using server = await FakeS3.start();
    server.fail("stall", { method: "LIST", times: 9 });
    const objects = objectsOf(server, { timeoutMs: 200 });
    await says(/does not answer: (TimeoutError|ETIMEDOUT)/, checkBucket(objects, host));
  });

  it("says that a bucket holds something else, unless it holds a store as well", async () => {
    await using server = await FakeS3.start();
    const photo = { bytes: Buffer.from("jpeg"), metadata: {} };
    server.objects.set("holiday/1.jpg", photo);
    await says(/holds something else: holiday\/1.jpg/, checkBucket(objectsOf(server), host));
    server.objects.set("store", photo);
    await checkBucket(objectsOf(server), host);
  });
});

async function says(words: RegExp, action: Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error: unknown) => {
    assert.ok(isKelpieError(error), `${error}`);
    assert.match(error.message, words);
    return true;
  });
}
