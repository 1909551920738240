import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type NetConnectOpts } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { bytesOf, type CliResult, type CliSettings, runCli } from "../../test/support/cli-run.ts";
import { FakeStore } from "../../test/support/fake-control.ts";
import { FakeObjects } from "../../test/support/fake-objects.ts";
import { storeFacts } from "../../test/support/raw-sheepdog.ts";
import { KelpieError } from "../base/errors.ts";
import { silentLog } from "../host/log.ts";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "kelpie-serve-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

interface Serving {
  banner: string;
  /** As Ctrl-C; resolves with what the command left. */
  stop(): Promise<CliResult>;
}

/** `kelpie serve` in this process, up to its banner. */
async function serve(t: TestContext, settings: CliSettings, ...flags: string[]): Promise<Serving> {
  const interrupt = new AbortController();
  const shown = Promise.withResolvers<string>();
  const onStdout = shown.resolve;
  // The default port belongs to whoever comes first.
  const http = flags.includes("--http") ? [] : ["--http", "off"];
  const argv = ["serve", ...http, ...flags];
  const ended = runCli(argv, { ...settings, signal: interrupt.signal, onStdout });
  const early = ended.then(({ stderr }) => Promise.reject(new Error(`it ended: ${stderr}`)));
  early.catch(() => {}); // Only counts before the banner.
  const stop = (): Promise<CliResult> => {
    interrupt.abort(new KelpieError("closed", "interrupted"));
    return ended;
  };
  // A test that fails before its end must not leave a server behind that keeps the process alive.
  t.after(stop);
  const banner = await Promise.race([shown.promise, early]);
  return { banner, stop };
}

const mustNotOpen = () =>
  Promise.reject(new KelpieError("io", "opened the store beside the server"));

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

test("commands find the server by its socket, and move data over NBD", async (t) => {
  const path = directory(t);
  const store = new FakeStore();
  const server = await serve(t, { store, directory: path }, "--nbd", `unix:${path}/nbd.sock`);
  const client = { store: new FakeStore(), directory: path, openLocal: mustNotOpen };
  const kelpie = (line: string, stdin?: AsyncIterable<Uint8Array>) =>
    runCli(line.split(" "), stdin === undefined ? client : { ...client, stdin });
  assert.equal((await kelpie("vdi create d 1M")).exitCode, 0);
  assert.equal((await kelpie("vdi write d 100", bytesOf("hello"))).stderr, "");
  await kelpie("vdi snapshot d -s 1st");
  await kelpie("vdi write d 100", bytesOf("later"));
  assert.equal((await kelpie("vdi read d 100 5")).stdout, "later");
  assert.equal((await kelpie("vdi read d 100 5 -s 1st")).stdout, "hello");
  assert.equal((await kelpie("vdi read d 100 5 -s 1")).stdout, "hello");
  assert.equal((await kelpie(`vdi export d@1st ${path}/out`)).exitCode, 0);
  assert.equal((await kelpie(`vdi import ${path}/out e`)).stderr, "");
  assert.equal((await kelpie("vdi read e 100 5")).stdout, "hello");
  assert.equal((await kelpie("vdi read nothing")).exitCode, 5);
  assert.deepEqual((await kelpie("store check")).stderr, "");
  assert.equal((await server.stop()).exitCode, 0);
  assert.ok(store.closed);
});

test("the banner says where it listens and what to type, for this store", async (t) => {
  const path = directory(t);
  const port = await freePort();
  const settings = { store: new FakeStore() };
  const flags = ["--store", path, "--nbd", `127.0.0.1:${port}`, "--nbd", `unix:${path}/n,b d.sock`];
  const server = await serve(t, settings, ...flags);
  const where = `node-name=disk1,server.type=unix,server.path=${path}/n,,b d.sock`;
  assert.equal(
    server.banner,
    `Kelpie 0.0.0-test serves ${path}
  NBD on 127.0.0.1:${port}
  NBD on unix:${path}/n,b d.sock

Make a disk:
  npx kelpie --store ${path} vdi create disk1 10G

Look at it, and boot a virtual machine with it:
  qemu-img info 'nbd+unix:///disk1?socket=${path}/n%2Cb%20d.sock'
  qemu-system-x86_64 -m 1G \\
    -blockdev 'driver=nbd,${where},export=disk1,discard=unmap' \\
    -device virtio-blk-pci,drive=disk1

Ctrl-C stops it; nothing written is lost.
`,
  );
  const made = await runCli(["--store", path, "vdi", "create", "disk1", "10G"], {
    ...settings,
    openLocal: mustNotOpen,
  });
  assert.equal(made.exitCode, 0);
  await server.stop();
});

test("with --json it says the same to programs, and a port 0 is the port it got", async (t) => {
  const path = directory(t);
  const server = await serve(
    t,
    { store: new FakeStore(), directory: path },
    "--json",
    "--nbd",
    "127.0.0.1:0",
  );
  const { nbd, control, pid, store } = JSON.parse(server.banner);
  assert.deepEqual([control, pid, store], [`${path}/control.sock`, 4711, path]);
  const port = Number(/^nbd:\/\/127\.0\.0\.1:(\d+)\/$/.exec(nbd[0])?.[1]);
  const socket = connect(port, "127.0.0.1");
  const [greeting] = await Promise.all([new Promise<Buffer>((done) => socket.once("data", done))]);
  assert.equal(greeting.toString("latin1", 0, 8), "NBDMAGIC");
  socket.destroy();
  await server.stop();
});

test("stopping removes the sockets and exits with 0, with clients connected", async (t) => {
  const path = directory(t);
  const store = new FakeStore();
  await store.control.call("vdi.create", { name: "d", sizeBytes: 2 ** 20 });
  const server = await serve(t, { store, directory: path }, "--nbd", `unix:${path}/nbd.sock`);
  const idle = connect(`${path}/nbd.sock`);
  idle.on("error", () => {});
  await new Promise((done) => idle.once("data", done));
  assert.ok(existsSync(`${path}/nbd.sock`) && existsSync(`${path}/control.sock`));
  const gone = new Promise((done) => idle.once("close", done));
  const { exitCode, stderr } = await server.stop();
  assert.deepEqual([exitCode, stderr], [0, ""]);
  assert.ok(!existsSync(`${path}/nbd.sock`) && !existsSync(`${path}/control.sock`));
  await gone;
});

test("a default address that is taken is left out; one asked for is an error", async (t) => {
  const path = directory(t);
  // Whoever has the port: another server on this machine does as well.
  const taken = createServer().on("error", () => {});
  taken.listen(10809, "127.0.0.1");
  t.after(() => taken.close());
  await new Promise((done) => taken.once("listening", done).once("error", done));
  const store = new FakeStore();
  const server = await serve(t, { store, directory: path });
  assert.match(server.banner, /^ {2}NBD on unix:.*\/nbd\.sock$/m);
  assert.doesNotMatch(server.banner, /10809/);
  const { stderr } = await server.stop();
  assert.equal(stderr, "kelpie: 127.0.0.1:10809 is taken: not listening there\n");
  const asked = new FakeStore();
  const flags = ["serve", "--nbd", `unix:${path}/a.sock`, "--nbd", "127.0.0.1:10809"];
  const refused = await runCli(flags, { store: asked, directory: path });
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /127\.0\.0\.1:10809/);
  assert.ok(asked.closed);
  assert.ok(!existsSync(`${path}/a.sock`));
});

test("a second server on a store is told who has it", async (t) => {
  const path = directory(t);
  const server = await serve(t, { store: new FakeStore(), directory: path }, "--nbd", "off");
  const openLocal = () => Promise.reject(new KelpieError("busy", "locked"));
  const second = await runCli(["serve"], { store: new FakeStore(), directory: path, openLocal });
  assert.equal(second.exitCode, 1);
  assert.match(second.stderr, /a server has it open, pid 4711\n.*kill 4711/);
  const reading = await runCli(["vdi", "read", "d"], {
    store: new FakeStore(),
    directory: path,
    openLocal,
  });
  assert.equal(reading.exitCode, 2);
  assert.match(reading.stderr, /no NBD address that answers/);
  await server.stop();
});

test("a store too deep for a socket's path is served, and commands use it", async (t) => {
  const path = join(directory(t), "d".repeat(120));
  mkdirSync(path);
  const store = new FakeStore();
  const server = await serve(t, { store, directory: path }, "--nbd", `unix:${path}/nbd.sock`);
  assert.match(server.banner, /NBD on unix:/);
  assert.doesNotMatch(server.banner, /qemu/);
  const client = { store, directory: path, openLocal: mustNotOpen };
  const imported = await runCli(["vdi", "import", "-", "d"], {
    ...client,
    stdin: bytesOf("hello"),
  });
  assert.deepEqual([imported.exitCode, imported.stderr], [0, ""]);
  assert.equal((await runCli(["vdi", "read", "d", "0", "5"], client)).stdout, "hello");
  await server.stop();
  assert.ok(!existsSync(`${path}/nbd.sock`));
});

test("a store that cannot be opened leaves no socket", async (t) => {
  const path = directory(t);
  const openLocal = () => Promise.reject(new KelpieError("unsupported", "a newer format"));
  const result = await runCli(["serve"], { store: new FakeStore(), directory: path, openLocal });
  assert.deepEqual([result.exitCode, result.stderr], [1, "kelpie: a newer format\n"]);
  assert.ok(!existsSync(`${path}/control.sock`));
});

test("a foreign image is refused with the line that converts it into the running server", async (t) => {
  const path = directory(t);
  const server = await serve(
    t,
    { store: new FakeStore(), directory: path },
    "--nbd",
    `unix:${path}/nbd.sock`,
  );
  const image = Buffer.alloc(4096);
  image.write("QFI\xfb\0\0\0\x03", 0, "latin1");
  image.writeBigUInt64BE(BigInt(10 * 2 ** 30), 24);
  const client = { store: new FakeStore(), directory: path, openLocal: mustNotOpen };
  const { stderr } = await runCli(["vdi", "import", "-", "my@disk"], {
    ...client,
    stdin: bytesOf(image),
  });
  assert.equal(
    stderr,
    `kelpie: -: it is a qcow2 image, not a raw one
kelpie vdi create my@disk 10G
qemu-img convert -n -O raw -f qcow2 IMAGE.qcow2 'nbd+unix:///my@disk?socket=${path}/nbd.sock'
(--raw imports it as it is)
`,
  );
  await server.stop();
});

/** A store whose disks are those of a fake: what is served is the server's own test. */
function sheepdogStore(): FakeStore {
  const store = new FakeStore();
  store.sheepdog = { objects: new FakeObjects(), store: storeFacts };
  return store;
}

/** The result code of a request without fields. */
async function askSheepdog(where: NetConnectOpts, opcode: number): Promise<number> {
  const socket = connect(where);
  const request = Buffer.alloc(48);
  request[0] = opcode < 0x80 ? 2 : 10;
  request[1] = opcode;
  socket.write(request);
  const [reply] = await Promise.all([new Promise<Buffer>((done) => socket.once("data", done))]);
  socket.destroy();
  return reply.readUInt32LE(16);
}

test("Sheepdog's clients are served where the banner says", async (t) => {
  const path = directory(t);
  const flags = ["--nbd", "off", "--sheepdog", "127.0.0.1:0", "--sheepdog", `unix:${path}/s`];
  const server = await serve(t, { store: sheepdogStore(), directory: path }, ...flags);
  const port = Number(/^ {2}Sheepdog on 127\.0\.0\.1:(\d+)$/m.exec(server.banner)?.[1]);
  assert.match(server.banner, /^ {2}Sheepdog on unix:.*\/s$/m);
  assert.equal(await askSheepdog({ port, host: "127.0.0.1" }, 0x86), 0);
  assert.equal(await askSheepdog({ path: `${path}/s` }, 0x86), 0);
  assert.equal(await askSheepdog({ path: `${path}/s` }, 0x85), 0x8b, "SHUTDOWN is refused");
  assert.equal((await server.stop()).exitCode, 0);
  assert.ok(!existsSync(`${path}/s`));
});

test("the server ends when dog may and does shut it down", async (t) => {
  const path = directory(t);
  const flags = ["--nbd", "off", "--sheepdog", `unix:${path}/s`, "--allow-admin"];
  const store = sheepdogStore();
  const interrupt = new AbortController();
  const shown = Promise.withResolvers<string>();
  const ended = runCli(["serve", "--http", "off", ...flags], {
    store,
    directory: path,
    signal: interrupt.signal,
    onStdout: shown.resolve,
  });
  t.after(() => interrupt.abort());
  await shown.promise;
  assert.equal(await askSheepdog({ path: `${path}/s` }, 0x85), 0);
  assert.deepEqual([(await ended).exitCode, store.closed], [0, true]);
});

test("Sheepdog's port is left out when it is taken; the socket is there all the same", async (t) => {
  const path = directory(t);
  const taken = createServer().on("error", () => {});
  taken.listen(7000, "127.0.0.1");
  t.after(() => taken.close());
  await new Promise((done) => taken.once("listening", done).once("error", done));
  const server = await serve(t, { store: sheepdogStore(), directory: path }, "--nbd", "off");
  assert.equal(await askSheepdog({ path: `${path}/sock` }, 0x86), 0);
  assert.doesNotMatch(server.banner, /7000/);
  const { stderr } = await server.stop();
  assert.equal(stderr, "kelpie: 127.0.0.1:7000 is taken: not listening there\n");
});

test("other machines are let in only when that is asked for, and the log says so", async (t) => {
  const path = directory(t);
  const events: unknown[] = [];
  const log = { ...silentLog, warn: (event: string) => events.push(event) };
  const settings = { store: sheepdogStore(), directory: path, host: { log } };
  const refused = await runCli(["serve", "--sheepdog", "0.0.0.0:0"], settings);
  assert.equal(refused.exitCode, 64);
  assert.match(refused.stderr, /--sheepdog 0\.0\.0\.0:0: anybody/);
  const flags = ["--nbd", "off", "--sheepdog", "0.0.0.0:0", "--insecure"];
  const server = await serve(t, settings, ...flags);
  assert.deepEqual(events, ["sheepdog is open to other machines"]);
  await server.stop();
});

test("commands for clusters ask the server that has the store open", async (t) => {
  const path = directory(t);
  const settings = { store: sheepdogStore(), directory: path };
  const none = await runCli(["cluster", "info"], settings);
  assert.equal(none.exitCode, 1);
  assert.match(none.stderr, /no server has it open/);
  const server = await serve(t, settings, "--nbd", "off", "--sheepdog", "127.0.0.1:0");
  const info = await runCli(["cluster", "info", "-v"], settings);
  assert.match(info.stdout, /^Cluster status: running/);
  assert.match(info.stdout, /^Cluster store: kelpie with 3 redundancy policy$/m);
  assert.match(info.stdout, /^Data kept by: the store's directory, once$/m);
  assert.match((await runCli(["node", "list"], settings)).stdout, /127\.0\.0\.1:\d+/);
  await server.stop();
});
