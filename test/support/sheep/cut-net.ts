import type {
  Address,
  Connection,
  ConnectionHandlers,
  Listener,
  Net,
  TlsContext,
  TlsIdentity,
} from "../../../src/host/net.ts";

/** Where a connection is cut: after so many bytes of all that go one way, over all connections. */
export interface Cut {
  direction: "out" | "in";
  afterBytes: number;
}

/** A network that cuts one connection, once, in the middle of whatever it carries. */
export class CutNet implements Net {
  readonly #net: Net;
  /** Bytes that still pass before the cut. */
  #left: { out: number; in: number };
  cuts = 0;
  /** What went each way so far. */
  readonly passed = { out: 0, in: 0 };
  /** How much had gone when each chunk began: mostly a request, an answer, or what either brought. */
  readonly begins: Record<Cut["direction"], number[]> = { out: [], in: [] };
  /** Called at the cut. */
  onCut: (() => void) | undefined;

  constructor(cut: Cut | undefined, components: { net: Net }) {
    this.#net = components.net;
    this.#left = { out: Number.POSITIVE_INFINITY, in: Number.POSITIVE_INFINITY };
    if (cut !== undefined) this.#left[cut.direction] = cut.afterBytes;
  }

  /** From now on. */
  cutAfter({ direction, afterBytes }: Cut): void {
    this.#left[direction] = afterBytes;
  }

  /**
   * Where somebody who does the same again could be cut: before each chunk that went since, and inside
   * it. Of these `countMax`, from one end to the other.
   */
  placesSince(passed: Readonly<CutNet["passed"]>, countMax: number): Cut[] {
    const places = (["out", "in"] as const).flatMap((direction) =>
      this.begins[direction]
        .filter((at) => at >= passed[direction])
        .flatMap((at) => [at, at + 7])
        .map((at) => ({ direction, afterBytes: at - passed[direction] })),
    );
    const step = Math.max(1, (places.length - 1) / (countMax - 1));
    const count = Math.min(places.length, countMax);
    return Array.from({ length: count }, (_, n) => places[Math.round(n * step)] as Cut);
  }

  tlsContext(identity: TlsIdentity): TlsContext {
    return this.#net.tlsContext(identity);
  }

  listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    return this.#net.listen(address, accept);
  }

  async connect(address: Address): Promise<Connection> {
    return this.#wrap(await this.#net.connect(address));
  }

  /** How many of `count` bytes pass; fewer than asked for: cut now. */
  #pass(direction: "out" | "in", count: number): number {
    const passing = Math.min(count, this.#left[direction]);
    if (count > 0) this.begins[direction].push(this.passed[direction]);
    this.passed[direction] += passing;
    this.#left[direction] -= passing;
    if (passing < count) {
      this.cuts++;
      this.#left[direction] = Number.POSITIVE_INFINITY;
      this.onCut?.();
    }
    return passing;
  }

  #wrap(inner: Connection): Connection {
    const pass = (direction: "out" | "in", count: number) => this.#pass(direction, count);
    let isCut = false;
    return {
      peer: inner.peer,
      start(handlers: ConnectionHandlers) {
        inner.start({
          data(chunk) {
            if (isCut) return;
            const count = pass("in", chunk.length);
            if (count > 0) handlers.data(chunk.subarray(0, count));
            if (count === chunk.length) return;
            isCut = true;
            inner.destroy();
          },
          drain: () => handlers.drain(),
          close: (error) => handlers.close(error),
        });
      },
      write(chunks) {
        if (isCut) return false;
        for (const chunk of chunks) {
          const count = pass("out", chunk.length);
          inner.write([chunk.subarray(0, count)]);
          if (count === chunk.length) continue;
          isCut = true;
          inner.end(); // what went before arrives
          return false;
        }
        return true;
      },
      get queuedBytes() {
        return inner.queuedBytes;
      },
      startTls: (upgrade) => inner.startTls(upgrade),
      release: (chunk, count) => inner.release(chunk, count),
      cork: () => inner.cork(),
      uncork: () => inner.uncork(),
      pause: () => inner.pause(),
      resume: () => inner.resume(),
      end: () => inner.end(),
      destroy: () => inner.destroy(),
    };
  }
}
