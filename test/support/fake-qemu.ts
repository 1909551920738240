import type { Address, Connection, Net } from "../../src/host/net.ts";

interface FakeImage {
  name: string;
  memory: string;
  clockNs: number;
}

export interface FakeNode {
  driver: string;
  /** What QEMU shows as the node's file. */
  file: string;
  readOnly?: boolean;
  /** Whether the guest has it as a drive. */
  isDrive?: boolean;
  images?: FakeImage[];
}

type Answer = Record<string, unknown> | undefined;

/** What happens to a command instead of its answer. */
export type Interception = "hang" | "vanish" | Error | undefined;

/**
 * A QEMU as its QMP monitor shows it: run state, block nodes, states saved in a node, jobs. The guest's
 * memory is a word that `memory` sets.
 */
export class FakeQemu {
  memory = "";
  isRunning = true;
  state = "";
  /** Told of the end of the process. */
  onQuit: () => void = () => {};
  /** The file that a new one is a copy of, if it is one. */
  originOf: (file: string) => string | undefined = () => undefined;
  /** Told of a file that is formatted. */
  onFormat: (file: string) => Promise<void> = async () => {};
  readonly nodes = new Map<string, FakeNode>();
  /** Every command, in order. */
  readonly log: string[] = [];
  /** Says what an answer shall be instead; undefined for the usual one. "hang" never answers. */
  intercept: (command: string, input: Record<string, unknown>) => Interception = () => undefined;
  greeting = true;
  /** What its monitor for people prints. */
  say: (line: string) => string = (line) => `you said ${line}\r\n`;
  /** What is in files that were formatted; it outlives the process. */
  readonly formatted: Map<string, FakeImage[]>;
  readonly #jobs = new Map<string, { type: string; status: string; error?: string }>();
  #connection: Connection | undefined;
  #rest = "";

  constructor(formatted = new Map<string, FakeImage[]>()) {
    this.formatted = formatted;
  }

  /** Every connection gets a greeting: a real monitor takes one at a time. */
  async listen(net: Net, address: Address): Promise<{ close(): Promise<void> }> {
    return net.listen(address, (connection) => this.#accept(connection));
  }

  /** The process is gone. */
  vanish(): void {
    this.#connection?.destroy();
  }

  sendEvent(event: string, data: Record<string, unknown> = {}): void {
    this.#send({ event, data, timestamp: { seconds: 1, microseconds: 2 } });
  }

  sendRaw(text: string): void {
    this.#connection?.write([Buffer.from(text)]);
  }

  imagesOf(node: string): string[] {
    return (this.nodes.get(node)?.images ?? []).map(({ name }) => name);
  }

  #accept(connection: Connection): void {
    this.#connection = connection;
    this.#rest = "";
    connection.start({
      data: (chunk) => {
        this.#rest += Buffer.from(chunk).toString();
        connection.release(chunk, chunk.length);
        for (let end = this.#rest.indexOf("\n"); end >= 0; end = this.#rest.indexOf("\n")) {
          const line = this.#rest.slice(0, end);
          this.#rest = this.#rest.slice(end + 1);
          this.#command(JSON.parse(line));
        }
      },
      drain: () => {},
      close: () => {},
    });
    const version = { qemu: { micro: 22, minor: 2, major: 7 }, package: "fake" };
    if (this.greeting) this.#send({ QMP: { version, capabilities: ["oob"] } });
  }

  #command(message: { execute: string; arguments?: Record<string, unknown>; id?: unknown }): void {
    const { execute: command, arguments: input = {}, id } = message;
    this.log.push(command);
    const other = this.intercept(command, input);
    if (other === "hang") return;
    if (other === "vanish") {
      this.vanish();
      return;
    }
    try {
      if (other instanceof Error) throw other;
      this.#send({ return: this.#answer(command, input) ?? {}, id });
    } catch (error) {
      const kind = error instanceof RangeError ? "CommandNotFound" : "GenericError";
      this.#send({ error: { class: kind, desc: (error as Error).message }, id });
    }
  }

  #answer(command: string, input: Record<string, unknown>): unknown {
    switch (command) {
      case "qmp_capabilities":
        return;
      case "query-status":
        return {
          status: this.state || (this.isRunning ? "running" : "paused"),
          running: this.isRunning,
        };
      case "query-memory-size-summary":
        return { "base-memory": 256 * 2 ** 20, "plugged-memory": 0 };
      case "stop":
        this.isRunning = false;
        return;
      case "cont":
        this.state = "";
        this.isRunning = true;
        return;
      case "query-block":
        return [...this.nodes].flatMap(([name, node]) =>
          node.isDrive === true
            ? [{ device: "", qdev: `/machine/${name}`, inserted: info(name, node) }]
            : [],
        );
      case "query-named-block-nodes":
        return [...this.nodes].map(([name, node]) => info(name, node));
      case "blockdev-add":
        return this.#addNode(input);
      case "blockdev-del":
        this.nodes.delete(String(input["node-name"]));
        return;
      case "blockdev-create": {
        const { options } = input as { options: { driver: string; file: string } };
        return this.#job(input, () => {
          if (options.driver === "file") return;
          const { file } = this.#node(options.file);
          this.formatted.set(file, []);
          return this.onFormat(file);
        });
      }
      case "snapshot-save":
        return this.#job(input, () => {
          const { images = [], file } = this.#node(String(input.vmstate));
          images.push({ name: String(input.tag), memory: this.memory, clockNs: 1_500_000_000 });
          this.formatted.set(file, images);
        });
      case "snapshot-load":
        return this.#job(input, () => {
          const { images = [] } = this.#node(String(input.vmstate));
          const image = images.find(({ name }) => name === input.tag);
          if (image === undefined) throw new Error(`there is no state ${input.tag}`);
          this.memory = image.memory;
        });
      case "snapshot-delete":
        return this.#job(input, () => {
          const node = this.#node(String((input.devices as string[])[0]));
          const left = (node.images ?? []).filter(({ name }) => name !== input.tag);
          node.images = left;
          this.formatted.set(node.file, left);
        });
      case "query-jobs":
        return [...this.#jobs].map(([id, job]) => ({ id, ...job }));
      case "job-dismiss":
        this.#jobs.delete(String(input.id));
        return;
      case "human-monitor-command":
        return this.say(String(input["command-line"]));
      case "quit":
        this.onQuit();
        queueMicrotask(() => this.vanish());
        return;
      default:
        throw new RangeError(`The command ${command} has not been found`);
    }
  }

  #addNode(input: Record<string, unknown>): Answer {
    const name = String(input["node-name"]);
    if (this.nodes.has(name)) throw new Error(`there is a node ${name} already`);
    if (input.driver === "nbd") {
      const server = input.server as { path: string };
      const file = `nbd+unix:///${String(input.export)}?socket=${server.path}`;
      const origin = this.formatted.get(this.originOf(file) ?? "");
      if (origin !== undefined) this.formatted.set(file, [...origin]);
      this.nodes.set(name, { driver: "nbd", file });
      return;
    }
    if (input.driver === "file") {
      this.nodes.set(name, { driver: "file", file: String(input.filename) });
      return;
    }
    const file = this.#node(String(input.file)).file;
    const images = this.formatted.get(file);
    if (images === undefined) throw new Error("Image is not in qcow2 format");
    this.nodes.set(name, { driver: String(input.driver), file, images });
    return;
  }

  #node(name: string): FakeNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  #job(input: Record<string, unknown>, work: () => void | Promise<void>): Answer {
    const id = String(input["job-id"]);
    const type = "job";
    const done = (error?: unknown): void => {
      const failure = error === undefined ? {} : { error: (error as Error).message };
      this.#jobs.set(id, { type, status: "concluded", ...failure });
      this.sendEvent("JOB_STATUS_CHANGE", { id, status: "concluded" });
    };
    this.#jobs.set(id, { type, status: "running" });
    Promise.resolve()
      .then(work)
      .then(() => done(), done);
    return;
  }

  #send(message: unknown): void {
    this.#connection?.write([Buffer.from(`${JSON.stringify(message)}\r\n`)]);
  }
}

function info(name: string, node: FakeNode): Record<string, unknown> {
  const snapshots = (node.images ?? []).map((image, at) => ({
    id: String(at + 1),
    name: image.name,
    "vm-state-size": 1000 + image.memory.length,
    "date-sec": 1_790_000_000,
    "date-nsec": 0,
    "vm-clock-sec": 1,
    "vm-clock-nsec": 500_000_000,
  }));
  return {
    "node-name": name,
    drv: node.driver,
    ro: node.readOnly ?? false,
    file: node.file,
    image: {
      filename: node.file,
      format: node.driver,
      "virtual-size": 2 ** 20,
      ...(snapshots.length > 0 ? { snapshots } : {}),
    },
  };
}
