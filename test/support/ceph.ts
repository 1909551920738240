import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import { requireTool, tryTool } from "./tools.ts";

const script = join(import.meta.dirname, "../../scripts/ceph.sh");

/** Of a step of the script, on a machine that is busy. */
const startMs = 150_000;

/** For a test's `skip` option. */
export const cephIsMissing =
  requireTool("ceph-mon", "ceph-mon") ||
  requireTool("ceph-osd", "ceph-osd") ||
  requireTool("radosgw", "radosgw");

/** A Ceph of this machine, with one bucket: the real thing, in some ten seconds. */
export class Ceph implements AsyncDisposable {
  readonly bucket = "disks";
  readonly endpoint: string;
  readonly #directory: string;

  private constructor(directory: string, endpoint: string) {
    this.#directory = directory;
    this.endpoint = endpoint;
  }

  static async start(): Promise<Ceph> {
    const directory = await mkdtemp(join(tmpdir(), "kelpie-ceph-"));
    try {
      const ceph = new Ceph(directory, (await run("start", directory)).trim());
      await ceph.#makeBucket();
      return ceph;
    } catch (error) {
      await end(directory);
      throw error;
    }
  }

  /** What a process needs in its environment to use it. */
  get env(): Record<string, string> {
    return {
      AWS_ACCESS_KEY_ID: "kelpie",
      AWS_SECRET_ACCESS_KEY: "kelpie-secret",
      AWS_REGION: "us-east-1",
      AWS_ENDPOINT_URL: this.endpoint,
    };
  }

  async stopS3(): Promise<void> {
    await run("stop-s3", this.#directory);
  }

  async startS3(): Promise<void> {
    await run("start-s3", this.#directory);
  }

  async stopOsd(): Promise<void> {
    await run("stop-osd", this.#directory);
  }

  async startOsd(): Promise<void> {
    await run("start-osd", this.#directory);
  }

  /** How many keys begin with a prefix, up to 1,000. */
  async count(prefix: string): Promise<number> {
    const query = new ListObjectsV2Command({ Bucket: this.bucket, Prefix: prefix });
    return (await this.#client().send(query)).Contents?.length ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#directory);
  }

  async #makeBucket(): Promise<void> {
    await this.#client().send(new CreateBucketCommand({ Bucket: this.bucket }));
  }

  #client(): S3Client {
    return new S3Client({
      endpoint: this.endpoint,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId: "kelpie", secretAccessKey: "kelpie-secret" },
    });
  }
}

async function end(directory: string): Promise<void> {
  await run("stop", directory);
  await rm(directory, { recursive: true, force: true });
}

async function run(command: string, directory: string): Promise<string> {
  const { status, stdout, stderr } = await tryTool(script, [command, directory], startMs);
  assert.equal(status, 0, `ceph.sh ${command}: exit ${status}\n${stderr}`);
  return stdout;
}
