/**
 * Records what QEMU 5.2's driver says to a store and is answered: `node test/sheepdog/record-transcripts.ts`.
 * `scripts/old-qemu.sh` builds the programs. Kept under transcripts/.
 */
import { writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { oldQemu } from "../support/old-qemu.ts";
import { runTool } from "../support/tools.ts";
import { serveStoreOn } from "./served-store.ts";
import { type Event, formatTranscript, transcriptsDirectory } from "./transcript.ts";

type Command = [program: "qemu-img" | "qemu-io", ...args: string[]];

const io = (uri: string, ...commands: string[]): Command => {
  return ["qemu-io", "-f", "raw", ...commands.flatMap((one) => ["-c", one]), uri];
};

const scenarios: Record<string, (uri: string) => Command[]> = {
  "create-write-map": (uri) => [
    ["qemu-img", "create", "-f", "raw", `${uri}/test`, "16M"],
    io(`${uri}/test`, "write -P 5 0 4k", "write -P 6 6M 4k", "read -P 5 0 4k", "flush"),
    io(`${uri}/test`, "write -P 7 4190208 8k", "discard 4M 4M", "read 4M 4k"),
    ["qemu-img", "map", "-f", "raw", "--output=json", `${uri}/test`],
    ["qemu-img", "resize", "-f", "raw", `${uri}/test`, "20M"],
    ["qemu-img", "info", "-f", "raw", `${uri}/test`],
  ],
  convert: (uri) => [
    ["qemu-img", "create", "-f", "raw", `${uri}/test`, "8M"],
    io(`${uri}/test`, "write -P 5 0 4k", "write -P 6 6M 4k"),
    ["qemu-img", "convert", "-f", "raw", "-O", "raw", `${uri}/test`, `${uri}/copy`],
    ["qemu-img", "compare", "-f", "raw", "-F", "raw", `${uri}/test`, `${uri}/copy`],
  ],
  snapshots: (uri) => [
    ["qemu-img", "create", "-f", "raw", `${uri}/test`, "16M"],
    io(`${uri}/test`, "write -P 1 0 4k"),
    ["qemu-img", "snapshot", "-c", "s1", `${uri}/test`],
    io(`${uri}/test`, "write -P 2 0 4k"),
    ["qemu-img", "snapshot", "-c", "s2", `${uri}/test`],
    io(`${uri}/test`, "write -P 3 0 4k", "write -P 3 4M 4k"),
    ["qemu-img", "snapshot", "-l", `${uri}/test`],
    ["qemu-img", "snapshot", "-a", "s1", `${uri}/test`],
    io(`${uri}/test`, "read -P 1 0 4k", "write -P 4 8k 4k"),
    ["qemu-img", "snapshot", "-l", `${uri}/test`],
    ["qemu-img", "snapshot", "-d", "s2", `${uri}/test`],
    io(`${uri}/test`, "read -P 1 0 4k", "read -P 4 8k 4k"),
    ["qemu-img", "snapshot", "-l", `${uri}/test`],
  ],
};

for (const [name, commands] of Object.entries(scenarios)) {
  const { net, timers } = createNodeHost({ logLevel: "error" });
  const listen = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  const store = await serveStoreOn(listen, { net, timers });
  const events: Event[] = [];
  const tap = await tapTo(store.port, events);
  for (const [program, ...args] of commands("URI")) {
    events.push({ kind: "command", line: [program, ...args].join(" ") });
    const uri = `sheepdog://127.0.0.1:${tap.port}`;
    await runTool(
      oldQemu(program),
      args.map((arg) => arg.replace("URI", uri)),
    );
  }
  await tap.close();
  await store.close();
  await writeFile(join(transcriptsDirectory, `${name}.txt`), formatTranscript(events));
}

async function tapTo(port: number, events: Event[]) {
  let connections = 0;
  const listener = createServer((client) => {
    const connection = ++connections;
    events.push({ kind: "open", connection });
    const server = connect(port, "127.0.0.1");
    const requests = splitter((header, payload) => {
      events.push({ kind: "request", connection, header, payload });
    });
    const responses = splitter((header, payload) => {
      events.push({ kind: "response", connection, header, payload });
    });
    // Written down before it goes on, so that the order is the order of cause and effect.
    forward(client, server, (chunk) => requests(chunk, (header) => (header[2] ?? 0) & 1));
    forward(server, client, (chunk) => responses(chunk, () => 1));
    client.on("close", () => events.push({ kind: "close", connection }));
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    port: (listener.address() as AddressInfo).port,
    close: () => new Promise<void>((resolve) => listener.close(() => resolve())),
  };
}

function forward(from: Socket, to: Socket, see: (chunk: Buffer) => void): void {
  from.on("data", (chunk: Buffer) => {
    see(chunk);
    to.write(chunk);
  });
  from.on("end", () => to.end());
  from.on("error", () => to.destroy());
}

/** Cuts a stream into messages: 48 bytes, and as many more as byte 12 says, if `hasPayload`. */
function splitter(done: (header: Buffer, payload: Buffer) => void) {
  let held = Buffer.alloc(0);
  return (chunk: Buffer, hasPayload: (header: Buffer) => number): void => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 48) {
      const end = 48 + (hasPayload(held) !== 0 ? held.readUInt32LE(12) : 0);
      if (held.length < end) return;
      done(Buffer.from(held.subarray(0, 48)), Buffer.from(held.subarray(48, end)));
      held = held.subarray(end);
    }
  };
}
