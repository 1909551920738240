import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { Address, Connection, Net } from "../host/net.ts";
import type { Timers } from "../host/timers.ts";
import { MessageReader } from "./wire.ts";

/** Precedes the answer to a sync; in no JSON text, so what stands before it is of an earlier session. */
const mark = 0xff;
/** An agent that runs answers a sync at once. */
const syncMs = 5000;
/** To freeze, a guest writes out all that it has in memory for its disks. */
const freezeMs = 30_000;
/** It may still be freezing when it is asked to thaw: it does one thing after the other. */
const thawMs = freezeMs;

/**
 * The agent inside a guest, `qemu-ga` (QEMU's docs/interop/qemu-ga.rst, qga/qapi-schema.json), over its
 * virtio-serial port. It answers one command after the other, without ids, and whoever connects hears what
 * it still had to say to the one before: so each command is preceded by a sync.
 */
export interface GuestAgent {
  /** Throws "unsupported" if no agent answers. */
  sync(): Promise<void>;
  /** Writes out the guest's file systems and holds all their writes; says how many there are. */
  freeze(): Promise<number>;
  /** Lets them go on; none need be frozen. */
  thaw(): Promise<number>;
  close(): void;
}

export interface AgentSettings {
  /** QEMU's end of the port: a socket that it listens on. */
  address: Address;
  /** Of the VM, for errors. */
  name: string;
}

/** Throws "not-found" if nobody listens there, "io". Whether an agent is behind it, `sync` finds out. */
export async function connectAgent(
  settings: AgentSettings,
  components: { net: Net; timers: Timers },
): Promise<GuestAgent> {
  const { address, name } = settings;
  try {
    return new Agent(name, await components.net.connect(address), components.timers);
  } catch (error) {
    if (!isKelpieError(error)) throw error;
    const message = `the agent's socket of VM "${name}" does not answer: ${messageOf(error)}`;
    const remedy = `kelpie vm attach ${name} --agent ADDR says where QEMU has it.`;
    throw new KelpieError(error.code, message, { cause: error, remedy });
  }
}

type Message = Record<string, unknown>;

class Agent implements GuestAgent {
  readonly #name: string;
  readonly #connection: Connection;
  readonly #timers: Timers;
  #reader = new MessageReader();
  /** Nothing counts before the mark that answers the last sync. */
  #isHeard = false;
  #lastId = 0;
  #take: (message: Message) => void = () => {};
  #fail: (error: KelpieError) => void = () => {};
  #gone: KelpieError | undefined;

  constructor(name: string, connection: Connection, timers: Timers) {
    this.#name = name;
    this.#connection = connection;
    this.#timers = timers;
    connection.start({
      data: (chunk) => {
        try {
          this.#data(chunk);
        } catch (error) {
          if (!isKelpieError(error)) throw error;
          this.#fail(error);
        } finally {
          connection.release(chunk, chunk.length);
        }
      },
      drain: () => {},
      close: () => {
        this.#gone ??= new KelpieError("closed", `the agent's socket of VM "${name}" was closed`);
        this.#fail(this.#gone);
      },
    });
  }

  sync(): Promise<void> {
    return this.#sync(syncMs);
  }

  freeze(): Promise<number> {
    return this.#execute("guest-fsfreeze-freeze", { syncMs, answerMs: freezeMs });
  }

  thaw(): Promise<number> {
    return this.#execute("guest-fsfreeze-thaw", { syncMs: thawMs, answerMs: thawMs });
  }

  close(): void {
    this.#gone ??= new KelpieError("closed", `the agent's socket of VM "${this.#name}" is closed`);
    this.#connection.destroy();
  }

  async #execute(command: string, limits: { syncMs: number; answerMs: number }): Promise<number> {
    await this.#sync(limits.syncMs);
    const answer = await this.#ask<Message>(limits.answerMs, {
      late: () => new KelpieError("busy", `${this.#who} did not answer ${command} in time`),
      send: () => this.#send([], { execute: command }),
      take: (message, done) => done(message),
    });
    const { return: value, error } = answer;
    if (typeof value === "number") return value;
    const { desc } = (error ?? {}) as { desc?: unknown };
    throw new KelpieError("io", `${this.#who}: ${command}: ${desc ?? JSON.stringify(answer)}`);
  }

  async #sync(limitMs: number): Promise<void> {
    const id = ++this.#lastId;
    this.#isHeard = false;
    await this.#ask<void>(limitMs, {
      late: () =>
        new KelpieError("unsupported", `${this.#who} does not answer`, {
          remedy:
            "Does qemu-guest-agent run in the guest, and is no other program connected to its socket?",
        }),
      // The mark ends what somebody else has sent in part.
      send: () => this.#send([mark], { execute: "guest-sync-delimited", arguments: { id } }),
      take: (message, done) => {
        if (message.return === id) done();
      },
    });
  }

  /** Sends something, and waits until `take` is satisfied with what comes. */
  #ask<T>(
    limitMs: number,
    request: {
      late(): KelpieError;
      send(): void;
      take(message: Message, done: (value: T) => void): void;
    },
  ): Promise<T> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const timer = this.#timers.after(limitMs, () => reject(request.late()));
    this.#take = (message) => request.take(message, resolve);
    this.#fail = reject;
    request.send();
    return promise.finally(() => {
      timer.cancel();
      this.#take = () => {};
      this.#fail = () => {};
    });
  }

  #send(before: number[], message: Message): void {
    const text = Buffer.from(`${JSON.stringify(message)}\n`);
    this.#connection.write([Buffer.concat([Buffer.from(before), text])]);
  }

  #data(chunk: Uint8Array): void {
    let start = 0;
    for (let at = chunk.indexOf(mark); at >= 0; at = chunk.indexOf(mark, start)) {
      this.#part(chunk.subarray(start, at));
      this.#reader = new MessageReader();
      this.#isHeard = true;
      start = at + 1;
    }
    this.#part(chunk.subarray(start));
  }

  #part(bytes: Uint8Array): void {
    if (!this.#isHeard) return;
    for (const message of this.#reader.push(bytes)) this.#take(message);
  }

  get #who(): string {
    return `the agent in the guest of VM "${this.#name}"`;
  }
}
