import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { Address, Connection, Net } from "../host/net.ts";
import type { Timer, Timers } from "../host/timers.ts";
import { parseIncoming, type QemuVersion, type QmpEvent, type QmpFailure } from "./messages.ts";
import { encodeMessage, MessageReader } from "./wire.ts";

export interface QmpSettings {
  address: Address;
  /** How the monitor is called in errors: the VM's name. */
  name: string;
  /** How long it may take to greet. Default: 5 s. */
  greetingMs?: number;
}

export interface QmpComponents {
  net: Net;
  timers: Timers;
}

export interface ExecuteOptions {
  /** How long the answer may take. Default: 60 s; Infinity waits as long as the monitor is there. */
  timeoutMs?: number;
}

/**
 * A connection to a QEMU's monitor (QMP). Commands are answered by id, in any order. When the monitor
 * goes away everything that waits fails with "closed", at once.
 */
export interface QmpClient {
  readonly version: QemuVersion;
  /**
   * The command's `return`. Throws what QEMU answered: "unsupported" for a command that it does not
   * have, "io" for all else; "busy" when it does not answer in time, "closed" when it is gone.
   */
  execute(
    command: string,
    input?: Record<string, unknown>,
    options?: ExecuteOptions,
  ): Promise<unknown>;
  /** Calls `listener` for each event from now on, until the function it returns is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void;
  /** Resolves when the connection is gone, whoever closed it; never rejects. */
  readonly closed: Promise<void>;
  close(): void;
}

/** A monitor has one client at a time and lets others wait in silence. */
const greetingDefaultMs = 5000;
/** Commands are answered at once, but the machine may be busy with its disks. */
const answerDefaultMs = 60_000;
/** Commands that wait for their answers: nobody asks for more at a time. */
const waitingMax = 64;

/** Throws "not-found" if nobody listens, "busy" if somebody listens and does not greet, "io". */
export async function connectQmp(
  settings: QmpSettings,
  components: QmpComponents,
): Promise<QmpClient> {
  const connection = await connect(settings, components.net);
  const client = new Client(settings, { connection, timers: components.timers });
  try {
    await client.greeted(settings.greetingMs ?? greetingDefaultMs);
    await client.execute("qmp_capabilities");
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}

async function connect({ address, name }: QmpSettings, net: Net): Promise<Connection> {
  try {
    return await net.connect(address);
  } catch (error) {
    const code = isKelpieError(error) ? error.code : "io";
    throw new KelpieError(code, `the monitor of ${name} does not answer: ${messageOf(error)}`, {
      cause: error,
      remedy: "Is its QEMU running?",
    });
  }
}

interface Waiting {
  command: string;
  timer: Timer | undefined;
  resolve(value: unknown): void;
  reject(error: KelpieError): void;
}

class Client implements QmpClient {
  version: QemuVersion = { major: 0, minor: 0, micro: 0 };
  readonly closed: Promise<void>;
  readonly #name: string;
  readonly #connection: Connection;
  readonly #timers: Timers;
  readonly #reader = new MessageReader();
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeting = Promise.withResolvers<void>();
  #settleClosed: () => void = () => {};
  #nextId = 1;
  #gone: KelpieError | undefined;

  constructor(settings: { name: string }, components: { connection: Connection; timers: Timers }) {
    this.#name = settings.name;
    this.#connection = components.connection;
    this.#timers = components.timers;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    this.#greeting.promise.catch(() => {}); // Nobody may be waiting for it yet.
    this.#connection.start({
      data: (chunk) => this.#data(chunk),
      drain: () => {},
      close: (error) => this.#closed(error),
    });
  }

  async greeted(limitMs: number): Promise<void> {
    const timer = this.#timers.after(limitMs, () => {
      this.#greeting.reject(
        new KelpieError("busy", `the monitor of ${this.#name} does not greet`, {
          remedy: "It talks to one program at a time. Is another one connected to it?",
        }),
      );
    });
    try {
      await this.#greeting.promise;
    } finally {
      timer.cancel();
    }
  }

  execute(
    command: string,
    input?: Record<string, unknown>,
    options: ExecuteOptions = {},
  ): Promise<unknown> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#waiting.size >= waitingMax) {
      const message = `QEMU of ${this.#name} has ${waitingMax} commands to answer already`;
      return Promise.reject(new KelpieError("busy", message));
    }
    const id = this.#nextId++;
    const limitMs = options.timeoutMs ?? answerDefaultMs;
    return new Promise((resolve, reject) => {
      const timer = Number.isFinite(limitMs)
        ? this.#timers.after(limitMs, () => this.#late(id, limitMs))
        : undefined;
      this.#waiting.set(id, { command, timer, resolve, reject });
      const message = input === undefined ? {} : { arguments: input };
      this.#connection.write([encodeMessage({ execute: command, ...message, id })]);
    });
  }

  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#fail(new KelpieError("closed", `the monitor of ${this.#name} is closed`));
    this.#connection.destroy();
  }

  #data(chunk: Uint8Array): void {
    try {
      for (const message of this.#reader.push(chunk)) this.#take(message);
    } catch (error) {
      // Where the next message begins is not known any more.
      if (!isKelpieError(error)) throw error;
      this.#fail(error);
      this.#connection.destroy();
    } finally {
      this.#connection.release(chunk, chunk.length);
    }
  }

  #take(message: Record<string, unknown>): void {
    const incoming = parseIncoming(message);
    switch (incoming.kind) {
      case "greeting":
        this.version = incoming.version;
        this.#greeting.resolve();
        break;
      case "event":
        for (const listener of [...this.#listeners]) listener(incoming.event);
        break;
      case "success":
        this.#settle(incoming.id)?.resolve(incoming.value);
        break;
      case "failure": {
        const waiting = this.#settle(incoming.id);
        waiting?.reject(refusal(this.#name, waiting.command, incoming.error));
        break;
      }
    }
  }

  /** Undefined for the answer of a command that was given up. */
  #settle(id: unknown): Waiting | undefined {
    const waiting = this.#waiting.get(id as number);
    this.#waiting.delete(id as number);
    waiting?.timer?.cancel();
    return waiting;
  }

  #late(id: number, limitMs: number): void {
    const waiting = this.#settle(id);
    const seconds = Math.round(limitMs / 100) / 10;
    waiting?.reject(
      new KelpieError(
        "busy",
        `QEMU of ${this.#name} did not answer ${waiting.command} within ${seconds} s`,
      ),
    );
  }

  #closed(error: Error | undefined): void {
    const why = error === undefined ? "" : `: ${error.message}`;
    this.#fail(
      new KelpieError("closed", `QEMU of ${this.#name} went away${why}`, {
        cause: error,
        remedy: "Has it ended? `kelpie vm list` shows which VMs run.",
      }),
    );
    this.#settleClosed();
  }

  #fail(error: KelpieError): void {
    this.#gone ??= error;
    this.#greeting.reject(this.#gone);
    for (const [id, { command }] of [...this.#waiting]) {
      const { code, remedy } = this.#gone;
      const options = remedy === undefined ? {} : { remedy };
      const text = `${this.#gone.message}, before it had answered ${command}`;
      this.#settle(id)?.reject(new KelpieError(code, text, options));
    }
  }
}

function refusal(name: string, command: string, { class: kind, desc }: QmpFailure): KelpieError {
  if (kind === "CommandNotFound") {
    return new KelpieError("unsupported", `QEMU of ${name} has no command ${command}: ${desc}`);
  }
  return new KelpieError("io", `QEMU of ${name}: ${command}: ${desc}`);
}
