import { KelpieError, messageOf } from "../base/errors.ts";
import type { Address, Connection, Net } from "../host/net.ts";
import type { Timer, Timers } from "../host/timers.ts";
import {
  type Answer,
  type Call,
  type LossReason,
  type PendingCall,
  SheepConnection,
} from "./client-connection.ts";
import { LostAnswerError } from "./client-errors.ts";
import {
  closeMs,
  connectMs,
  giveUpMsDefault,
  reconnectMs,
  silentMs,
  violationsMax,
} from "./client-limits.ts";
import { result } from "./results.ts";

export interface LinkSettings {
  /** Any of them will do; the first is tried first. */
  nodes: readonly Address[];
  /**
   * How long to try to reach a node again when the connection was lost. Infinity, as QEMU's driver has
   * it, for what must outlive a restart of the cluster.
   */
  giveUpMs?: number;
}

export interface LinkComponents {
  net: Net;
  timers: Timers;
}

export interface SendOptions {
  /** Fail with LostAnswerError rather than send a second time. */
  once?: boolean;
  /** Any result is an answer, also those that ask to try again. */
  anyResult?: boolean;
  /** Before all that waits, also while that waits for `reconnected`. */
  first?: boolean;
}

/** Results of a node that is not ready, or not any more: another one, or the same one later, will do. */
const laterResults: ReadonlySet<number> = new Set([
  result.startup,
  result.shutdown,
  result.waitForJoin,
  result.killed,
  result.again,
  result.collectingClusterInfo,
]);
/** Of these, the ones where another node is worth a try. */
const leaveResults: ReadonlySet<number> = new Set([result.shutdown, result.killed]);

interface Waiting extends PendingCall {
  once: boolean;
  first: boolean;
  /** Where it was sent last. */
  sentTo: SheepConnection | undefined;
  violations: number;
  failed(error: Error): void;
}

/**
 * A connection to a cluster, by whichever node answers. When it is lost it is made again, and what was
 * in flight is sent again; so a request must bear being executed twice, or be sent `once`.
 */
export class SheepLink {
  readonly #nodes: readonly Address[];
  readonly #roundsMax: number;
  readonly #components: LinkComponents;
  /** Sent when there is a connection with room, from #waitingNext on. */
  #waiting: Waiting[] = [];
  #waitingNext = 0;
  #connection: SheepConnection | undefined;
  #connecting = false;
  /** Runs for a connection that took the place of another, before anything is sent that waits. */
  reconnected: (() => Promise<void>) | undefined;
  #isRestoring = false;
  #silence: Timer | undefined;
  #ending: Timer | undefined;
  #nodeIndex = 0;
  /** Connections in a row that were lost before anything was answered. */
  #barren = 0;
  #closed = false;
  #idle: (() => void) | undefined;
  #unanswered = 0;

  private constructor(settings: LinkSettings, components: LinkComponents) {
    this.#nodes = settings.nodes;
    this.#roundsMax = Math.max(1, (settings.giveUpMs ?? giveUpMsDefault) / reconnectMs);
    this.#components = components;
  }

  /** Throws what connecting to the last node threw if none can be reached. */
  static async open(settings: LinkSettings, components: LinkComponents): Promise<SheepLink> {
    const link = new SheepLink(settings, components);
    link.#adopt(await link.#connectAny());
    return link;
  }

  /** Resolves with an answer of any result but those that mean "later". */
  async send(call: Call, options: SendOptions = {}): Promise<Answer> {
    for (let round = 1; ; round++) {
      const { answer, from } = await this.#begin(call, options);
      const isFinal = options.anyResult === true || !laterResults.has(answer.result);
      if (isFinal || round >= this.#roundsMax || this.#closed) return answer;
      if (leaveResults.has(answer.result)) this.#leave(from);
      await this.#components.timers.sleep(reconnectMs);
    }
  }

  /** Waits for what is in flight. Later requests fail with "closed". */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#ending?.cancel();
    if (this.#unanswered > 0 && this.#connection !== undefined) {
      const idle = Promise.withResolvers<void>();
      this.#idle = idle.resolve;
      const limit = this.#components.timers.after(closeMs, idle.resolve);
      await idle.promise;
      limit.cancel();
    }
    this.#failAll(closedError());
    this.#connection?.destroy();
  }

  /** Closes after a while, though nobody may have answered by then. */
  closeSoon(): void {
    this.#ending ??= this.#components.timers.after(closeMs, () => void this.close());
  }

  #begin(
    call: Call,
    { once = false, first = false }: SendOptions,
  ): Promise<{ answer: Answer; from: SheepConnection | undefined }> {
    if (this.#closed) return Promise.reject(closedError());
    return new Promise((resolve, reject) => {
      this.#unanswered++;
      const waiting: Waiting = {
        call,
        once,
        first,
        sentTo: undefined,
        violations: 0,
        answered: (answer) => {
          resolve({ answer, from: waiting.sentTo });
          this.#settled();
        },
        failed: (error) => {
          reject(error);
          this.#settled();
        },
      };
      if (first) this.#waiting.splice(this.#waitingNext, 0, waiting);
      else this.#waiting.push(waiting);
      this.#pump();
    });
  }

  #settled(): void {
    this.#unanswered--;
    if (this.#unanswered === 0) this.#idle?.();
  }

  #pump(): void {
    const connection = this.#connection;
    if (connection === undefined) {
      this.#reconnect();
      return;
    }
    while (this.#waitingNext < this.#waiting.length && connection.hasRoom) {
      const next = this.#waiting[this.#waitingNext] as Waiting;
      if (this.#isRestoring && !next.first) break;
      this.#waitingNext++;
      const refusal = next.call.refusal?.();
      if (refusal !== undefined) {
        next.failed(refusal);
        continue;
      }
      next.sentTo = connection;
      connection.send(next);
    }
    if (this.#waitingNext === this.#waiting.length || this.#waitingNext > 1024) {
      this.#waiting.splice(0, this.#waitingNext);
      this.#waitingNext = 0;
    }
  }

  #adopt(connection: Connection): SheepConnection {
    const adopted = new SheepConnection(connection, {
      room: () => this.#pump(),
      lost: (unanswered, reason) => {
        if (this.#connection === adopted) {
          if (!reason.answered) this.#nodeIndex++;
          this.#dropped();
        }
        this.#lost(unanswered as Waiting[], reason);
      },
    });
    this.#connection = adopted;
    if (this.#nodes.length > 1) this.#watch(adopted, undefined);
    this.#pump();
    return adopted;
  }

  /** A node that hangs keeps its connections: it is left if another could do what it does not. */
  #watch(connection: SheepConnection, receivedWhenBusy: number | undefined): void {
    this.#silence = this.#components.timers.after(silentMs, () => {
      const { idle, received } = connection;
      if (!idle && received === receivedWhenBusy) this.#leave(connection);
      else this.#watch(connection, idle ? undefined : received);
    });
  }

  /** The next node is tried, if there is one, and the connection is not left already. */
  #leave(connection: SheepConnection | undefined): void {
    if (connection === undefined || connection !== this.#connection) return;
    if (this.#nodes.length === 1) return;
    this.#nodeIndex++;
    this.#dropped();
    connection.destroy();
  }

  #dropped(): void {
    this.#connection = undefined;
    this.#isRestoring = false;
    this.#silence?.cancel();
  }

  async #restore(connection: SheepConnection): Promise<void> {
    await this.reconnected?.();
    if (connection !== this.#connection) return; // lost meanwhile: the next one does it again
    this.#isRestoring = false;
    this.#pump();
  }

  #lost(unanswered: Waiting[], { error, violation, answered }: LossReason): void {
    if (answered) this.#barren = 0;
    else this.#barren++;
    const again: Waiting[] = [];
    for (const waiting of unanswered) {
      if (waiting === violation) waiting.violations++;
      if (this.#closed) waiting.failed(closedError());
      else if (waiting.violations >= violationsMax) waiting.failed(error as KelpieError);
      else if (waiting.once) waiting.failed(new LostAnswerError(error));
      else again.push(waiting);
    }
    // In front: they were there first.
    this.#waiting = [...again, ...this.#waiting.slice(this.#waitingNext)];
    this.#waitingNext = 0;
    // An idle connection that was lost is made again when it is needed.
    if (this.#waiting.length > 0) this.#pump();
  }

  #reconnect(): void {
    if (this.#connecting || this.#closed) return;
    this.#connecting = true;
    void this.#connectInRounds();
  }

  async #connectInRounds(): Promise<void> {
    // Who accepts connections and drops them is no better than who does not answer.
    if (this.#barren > 0) await this.#components.timers.sleep(reconnectMs);
    for (let round = 1 + this.#barren; !this.#closed; round++) {
      try {
        if (round > this.#roundsMax) throw new KelpieError("io", "connections are dropped");
        const connection = await this.#connectAny();
        this.#connecting = false;
        if (this.#closed) connection.destroy();
        else {
          this.#isRestoring = this.reconnected !== undefined;
          const adopted = this.#adopt(connection);
          if (this.#isRestoring) void this.#restore(adopted);
        }
        return;
      } catch (error) {
        // Nobody is there: tried again until it has been long enough.
        if (round >= this.#roundsMax) {
          this.#connecting = false;
          this.#barren = 0;
          this.#failAll(
            new KelpieError("io", `no Sheepdog server answers: ${messageOf(error)}`, {
              cause: error,
            }),
          );
          return;
        }
      }
      await this.#components.timers.sleep(reconnectMs);
    }
    this.#connecting = false;
  }

  /** The node that was used last is tried first, then the others. */
  async #connectAny(): Promise<Connection> {
    let failure: unknown = new KelpieError("invalid", "there is no node to connect to");
    for (let tried = 0; tried < this.#nodes.length; tried++) {
      const index = (this.#nodeIndex + tried) % this.#nodes.length;
      try {
        const connection = await this.#connect(this.#nodes[index] as Address);
        this.#nodeIndex = index;
        return connection;
      } catch (error) {
        failure = error; // the next node may answer
      }
    }
    throw failure;
  }

  #connect(node: Address): Promise<Connection> {
    const { net, timers } = this.#components;
    return new Promise((resolve, reject) => {
      let late = false;
      const limit = timers.after(connectMs, () => {
        late = true;
        reject(new KelpieError("io", `no connection within ${connectMs / 1000} seconds`));
      });
      net.connect(node).then(
        (connection) => {
          limit.cancel();
          if (late) connection.destroy();
          else resolve(connection);
        },
        (error: unknown) => {
          limit.cancel();
          reject(error);
        },
      );
    });
  }

  #failAll(error: KelpieError): void {
    const waiting = this.#waiting.slice(this.#waitingNext);
    this.#waiting = [];
    this.#waitingNext = 0;
    for (const one of waiting) one.failed(error);
  }
}

function closedError(): KelpieError {
  return new KelpieError("closed", "the connection to the Sheepdog cluster is closed");
}
