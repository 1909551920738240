/** How many connections there may be, in all and from one address. */
export interface ConnectionLimits {
  max: number;
  perAddressMax: number;
}

/**
 * The connections of a server, or of several that share the limits. Peers are named as in
 * `Connection.peer`; those on Unix sockets have no address, and only count in all.
 */
export class ConnectionCount {
  readonly limits: ConnectionLimits;
  #all = 0;
  readonly #byAddress = new Map<string, number>();

  constructor(limits: ConnectionLimits) {
    this.limits = limits;
  }

  get all(): number {
    return this.#all;
  }

  /** Undefined, and then it counts until `leave`; or what there are too many of. */
  enter(peer: string): string | undefined {
    const { max, perAddressMax } = this.limits;
    if (this.#all >= max) return `there are ${max} connections, the limit`;
    const address = addressOf(peer);
    const count = this.#byAddress.get(address) ?? 0;
    if (address !== "" && count >= perAddressMax) {
      return `there are ${perAddressMax} connections from ${address}, the limit for one address`;
    }
    this.#all++;
    if (address !== "") this.#byAddress.set(address, count + 1);
    return undefined;
  }

  leave(peer: string): void {
    this.#all--;
    const address = addressOf(peer);
    const count = this.#byAddress.get(address) ?? 0;
    if (count > 1) this.#byAddress.set(address, count - 1);
    else this.#byAddress.delete(address);
  }
}

/** "10.0.0.3" of "10.0.0.3:51034", "[::1]" of "[::1]:5"; empty where there is none. */
function addressOf(peer: string): string {
  const colon = peer.lastIndexOf(":");
  return colon < 0 ? "" : peer.slice(0, colon);
}
