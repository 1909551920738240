import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLocal } from "../../src/cli/local.ts";
import type { Control } from "../../src/control/calls.ts";
import type { Address } from "../../src/host/net.ts";
import { createNodeHost } from "../../src/host/node/node-host.ts";
import { connectControl } from "../../src/http/control-client.ts";
import { connectNbd, type NbdClient } from "../../src/nbd/client.ts";
import { formatNbdUri, parseNbdUri } from "../../src/nbd/uri.ts";
import { type CliResult, runCli } from "./cli-run.ts";
import { FakeStore } from "./fake-control.ts";
import { type ToolResult, tryTool } from "./tools.ts";

/** A directory of a test's own, removed when the test is done with it. */
export class Scratch implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<Scratch> {
    return new Scratch(await mkdtemp(join(tmpdir(), "kelpie-system-")));
  }

  file(name: string): string {
    return join(this.path, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** How a server process came to its end. */
export interface ServerEnd {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
}

const program = join(import.meta.dirname, "../../bin/kelpie");
const host = createNodeHost({ logLevel: "silent" });

/** `kelpie serve`, the real thing, in a process of its own, on a Unix socket and a free TCP port. */
export class ServerProcess implements AsyncDisposable {
  readonly store: string;
  readonly pid: number;
  readonly control: Control;
  /** Where Sheepdog's clients are served: "127.0.0.1:" and the port, unless started otherwise. */
  readonly sheepdog: string;
  readonly #addresses: readonly Address[];
  readonly #child: ChildProcess;
  readonly #ended: Promise<ServerEnd>;

  /** Resolves when it listens; throws with what it said if it ends before that. */
  static start(store: string, args: readonly string[] = []): Promise<ServerProcess> {
    return ServerProcess.#start(store, ["--store", store, ...args], {});
  }

  /** The same of a store in an object store; `local` is its directory on this machine. */
  static startS3(
    place: { url: string; local: string; env: Record<string, string> },
    args: readonly string[] = [],
  ): Promise<ServerProcess> {
    const { url, local, env } = place;
    return ServerProcess.#start(local, ["--store", url, "--local", local, ...args], env);
  }

  static async #start(
    store: string,
    args: readonly string[],
    env: Record<string, string>,
  ): Promise<ServerProcess> {
    const nbd = ["--nbd", `unix:${store}/nbd.sock`, "--nbd", "127.0.0.1:0"];
    // The default port belongs to whoever comes first.
    const sheepdog = args.includes("--sheepdog") ? [] : ["--sheepdog", "127.0.0.1:0"];
    const http = args.includes("--http") ? [] : ["--http", "off"];
    const listen = [...nbd, ...sheepdog, ...http];
    const child = spawn(program, ["serve", "--json", ...listen, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    const ended = endOf(child);
    let stdout = "";
    const listening = new Promise<string>((resolve) => {
      child.stdout.on("data", (chunk: Buffer) => {
        stdout += chunk.toString();
        if (stdout.endsWith("\n")) resolve(stdout);
      });
    });
    const first = await Promise.race([listening, ended]);
    if (typeof first !== "string") {
      throw new Error(`the server ended: ${first.exitCode ?? first.signal}\n${first.stderr}`);
    }
    const info = JSON.parse(first) as { nbd: string[]; sheepdog: string[] };
    const running = await connectControl(join(store, "control.sock"));
    assert.ok(running, "a server that listens answers on its control socket");
    assert.equal(running.info.pid, child.pid);
    const { nbd: uris, sheepdog: places } = info;
    const { control } = running;
    return new ServerProcess({ store, child, ended, control, nbd: uris, sheepdog: places });
  }

  private constructor(parts: {
    store: string;
    child: ChildProcess;
    ended: Promise<ServerEnd>;
    control: Control;
    nbd: string[];
    sheepdog: string[];
  }) {
    this.store = parts.store;
    this.pid = parts.child.pid ?? 0;
    this.control = parts.control;
    this.#child = parts.child;
    this.#ended = parts.ended;
    this.sheepdog = parts.sheepdog[0] ?? "";
    this.#addresses = parts.nbd.map((uri) => parseNbdUri(uri).address);
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  address(kind: Address["kind"] = "unix"): Address {
    const address = this.#addresses.find((one) => one.kind === kind);
    assert.ok(address);
    return address;
  }

  /** The NBD URI of an export. */
  uri(exportName: string, kind: Address["kind"] = "unix"): string {
    return formatNbdUri({ address: this.address(kind), exportName });
  }

  /** Kelpie's own client, connected to an export. The caller closes it. */
  connect(exportName: string, changesSince: readonly string[] = []): Promise<NbdClient> {
    return connectNbd({ address: this.address(), exportName, changesSince }, host);
  }

  /** Runs a command line in this process; it finds the server as any command does, or fails. */
  cli(...argv: string[]): Promise<CliResult> {
    return runCli(argv, {
      store: new FakeStore(),
      directory: this.store,
      openLocal: async () => assert.fail("the command did not find the server"),
    });
  }

  /** The standard output of a command that must succeed. */
  async ok(...argv: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.cli(...argv);
    assert.equal(exitCode, 0, `kelpie ${argv.join(" ")}: exit ${exitCode}\n${stderr}`);
    return stdout;
  }

  /** What a command that must succeed prints with --json. */
  async json(...argv: string[]): Promise<unknown> {
    return JSON.parse(await this.ok(...argv, "--json"));
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: NodeJS.Signals = "SIGINT"): Promise<ServerEnd> {
    this.#child.kill(signal);
    return await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
  }
}

/** A command line on a store that no server has open, in this process: sooner than a new one. */
export function runHere(store: string, ...argv: string[]): Promise<CliResult> {
  return runCli(argv, { store: new FakeStore(), directory: store, openLocal });
}

/** `kelpie` as people run it: a process of its own, whether a server runs or not. */
export function runKelpie(store: string, ...argv: string[]): Promise<ToolResult> {
  return tryTool(process.execPath, [program, ...argv, "--store", store]);
}

function endOf(child: ChildProcess): Promise<ServerEnd> {
  let stderr = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (exitCode, signal) => resolve({ exitCode, signal, stderr }));
  });
}
