import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { isKelpieError } from "../../base/errors.ts";
import { createNodeFiles } from "./files.ts";

describe("a lock of this machine", () => {
  let directory = "";
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "kelpie-lock-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it("is refused while another process holds it, and free when that is killed", async () => {
    const path = join(directory, "lock");
    const files = createNodeFiles();
    const holder = await holdInAnotherProcess(path);
    await assert.rejects(files.lock(path), (error: unknown) => {
      return isKelpieError(error, "busy") && error.message.includes(path);
    });
    holder.kill("SIGKILL");
    await once(holder, "exit");
    const lock = await files.lock(path);
    await lock.release();
  });

  it("keeps another process out until it is released", async () => {
    const path = join(directory, "other");
    const lock = await createNodeFiles().lock(path);
    await assert.rejects(holdInAnotherProcess(path), /busy/);
    await lock.release();
    const holder = await holdInAnotherProcess(path);
    holder.kill("SIGKILL");
    await once(holder, "exit");
  });

  it("holds between two Files of one process, and an attempt does not weaken it", async () => {
    const path = join(directory, "shared");
    const lock = await createNodeFiles().lock(path);
    const isBusy = (error: unknown): boolean => isKelpieError(error, "busy");
    await assert.rejects(createNodeFiles().lock(path), isBusy);
    await assert.rejects(holdInAnotherProcess(path), /busy/);
    await lock.release();
  });

  it("leaves one empty file and nothing beside it", async () => {
    const inside = await mkdtemp(join(directory, "d-"));
    const lock = await createNodeFiles().lock(join(inside, "lock"));
    assert.deepEqual(await readdir(inside), ["lock"]);
    await lock.release();
    assert.deepEqual(await readdir(inside), ["lock"]);
  });

  it("says io for a file that is something else", async () => {
    const path = join(directory, "text");
    await writeFile(path, "no lock file, but a text that somebody needs\n".repeat(10));
    const files = createNodeFiles();
    await assert.rejects(files.lock(path), (error: unknown) => isKelpieError(error, "io"));
  });
});

/** Starts a process that takes the lock and waits; fails with what it says if it cannot. */
async function holdInAnotherProcess(path: string): Promise<ChildProcess> {
  const module = new URL("./files.ts", import.meta.url).href;
  const script = `
    import { createNodeFiles } from ${JSON.stringify(module)};
    try {
      await createNodeFiles().lock(${JSON.stringify(path)});
      process.stdout.write("held");
      setInterval(() => {}, 1_000);
    } catch (error) {
      process.stdout.write(String(error.code));
    }`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [said] = await once(child.stdout, "data");
  if (String(said) === "held") return child;
  await once(child, "close");
  throw new Error(String(said));
}
