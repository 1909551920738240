/**
 * Records what NBD clients that people use say to a server: `node test/fuzz/record-sessions.ts`. Needs
 * qemu-utils and libnbd-bin. Kept under sessions/: "> " and what the client said, in hex; "< " and how many
 * bytes the server answered.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StaticExports } from "../../src/block/static-exports.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { createNbdServer } from "../../src/nbd/server.ts";
import { runTool } from "../support/tools.ts";
import { recordedDisk, sessionsDirectory } from "./sessions.ts";

const tools: Record<string, (uri: string) => [string, string[]]> = {
  "qemu-io": (uri) => {
    const commands = [
      "write -P 7 0 512",
      "read -P 7 0 512",
      "write -z 4k 4k",
      "discard 8k 4k",
      "flush",
      "map",
    ];
    return ["qemu-io", ["-t", "none", "-f", "raw", ...commands.flatMap((one) => ["-c", one]), uri]];
  },
  "qemu-img-map": (uri) => ["qemu-img", ["map", "--output=json", uri]],
  "nbdinfo-map": (uri) => ["nbdinfo", ["--map", uri]],
  "nbdinfo-list": (uri) => ["nbdinfo", ["--list", uri]],
  nbdcopy: (uri) => ["nbdcopy", ["--request-size=32768", "--requests=1", uri, "null:"]],
};

const scratch = await mkdtemp(join(tmpdir(), "kelpie-record-"));
const host = createNodeHost({ logLevel: "error" });
for (const [name, command] of Object.entries(tools)) {
  const socket = join(scratch, `${name}.server`);
  const disk = await recordedDisk();
  const exports = new StaticExports(new Map([["disk", { device: disk }]]));
  const addresses = [{ kind: "unix", path: socket } as const];
  const server = await createNbdServer({ addresses }, { ...host, exports });
  const lines: string[] = [];
  const tap = join(scratch, `${name}.tap`);
  const listener = createServer((client) => {
    // Tools connect several times; each connection is a session, and the first with data is kept.
    const session: string[] = [];
    const toServer = connect(socket);
    client.on("data", (chunk: Buffer) => session.push(`> ${chunk.toString("hex")}`));
    toServer.on("data", (chunk: Buffer) => session.push(`< ${chunk.length}`));
    client.pipe(toServer).pipe(client);
    client.on("close", () => {
      if (session.length > lines.length) lines.splice(0, lines.length, ...session);
    });
    client.on("error", () => {});
    toServer.on("error", () => {});
  });
  await new Promise<void>((resolve) => listener.listen(tap, resolve));
  await runTool(...command(`nbd+unix:///disk?socket=${tap}`));
  await server.close();
  await new Promise((resolve) => listener.close(resolve));
  await writeFile(join(sessionsDirectory, `${name}.hex`), `${lines.join("\n")}\n`);
}
await rm(scratch, { recursive: true });
