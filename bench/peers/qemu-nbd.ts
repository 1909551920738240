import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "../../test/support/tools.ts";
import { PeerProcess } from "./peer-process.ts";
import type { BenchServer } from "./server.ts";

/** qemu-nbd as people start it, with the host's page cache, on a qcow2 or a raw file. */
export class QemuNbd implements BenchServer {
  readonly name;
  readonly #format: "qcow2" | "raw";
  readonly #file: string;
  readonly #socket: string;
  #process: PeerProcess | undefined;
  #snapshots = 0;

  static async start(options: {
    directory: string;
    format: "qcow2" | "raw";
    sizeBytes: number;
  }): Promise<QemuNbd> {
    const { directory, format, sizeBytes } = options;
    const server = new QemuNbd(directory, format);
    if (format === "qcow2") {
      await runTool("qemu-img", ["create", "-f", "qcow2", server.#file, String(sizeBytes)]);
    } else {
      const file = await open(server.#file, "w");
      await file.truncate(sizeBytes);
      await file.close();
    }
    await server.#start();
    return server;
  }

  private constructor(directory: string, format: "qcow2" | "raw") {
    this.name = `qemu-nbd ${format}` as const;
    this.#format = format;
    this.#file = join(directory, `disk.${format}`);
    this.#socket = join(directory, `${format}.sock`);
  }

  get uri(): string {
    if (this.#process === undefined) throw new Error(`${this.name} is not running`);
    return this.#process.uri;
  }

  /** An internal one. Nobody else may have the file open meanwhile, so the server is started again. */
  async snapshot(): Promise<void> {
    await this.#snapshotCommand("-c", `bench${this.#snapshots++}`);
  }

  async deleteSnapshots(): Promise<void> {
    for (; this.#snapshots > 0; this.#snapshots--) {
      await this.#snapshotCommand("-d", `bench${this.#snapshots - 1}`);
    }
  }

  async #snapshotCommand(how: "-c" | "-d", tag: string): Promise<void> {
    await this.stop();
    await runTool("qemu-img", ["snapshot", how, tag, this.#file]);
    await this.#start();
  }

  pause(): void {
    this.#process?.pause();
  }

  resume(): void {
    this.#process?.resume();
  }

  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = undefined;
  }

  async #start(): Promise<void> {
    await rm(this.#socket, { force: true });
    const how = ["--cache=writeback", "-t", "-e", "16", "-k", this.#socket, "-f", this.#format];
    this.#process = await PeerProcess.start("qemu-nbd", [...how, this.#file], this.#socket);
  }
}
