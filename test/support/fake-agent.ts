import type { Address, Connection, Net } from "../../src/host/net.ts";

type Command = { execute: string; arguments?: { id?: number } };

/** What happens to a command instead of its answer; "slow" has it done and answered by `goOn`. */
export type AgentInterception = "hang" | "slow" | "vanish" | Error | undefined;

/** A guest's agent behind QEMU's socket: one command after the other, answers without ids. */
export class FakeAgent {
  /** How many file systems the guest has. */
  fileSystems = 2;
  isFrozen = false;
  /** Every command, in order. */
  readonly log: string[] = [];
  intercept: (command: string) => AgentInterception = () => undefined;
  /** What it still had to say to whoever was connected before. */
  leftOver: string | undefined;
  #connection: Connection | undefined;
  #rest = "";
  /** What it is at, and what it was asked for meanwhile. */
  #queue: Command[] = [];

  async listen(net: Net, address: Address): Promise<{ close(): Promise<void> }> {
    return net.listen(address, (connection) => this.#accept(connection));
  }

  /** It has done what it was slow with, and does what came meanwhile. */
  goOn(): void {
    const [slow, ...others] = this.#queue.splice(0);
    if (slow !== undefined) this.#do(slow);
    for (const command of others) this.#command(command);
  }

  sayRaw(bytes: Uint8Array): void {
    this.#connection?.write([bytes]);
  }

  #say(message: unknown): void {
    this.#connection?.write([Buffer.from(`${JSON.stringify(message)}\n`)]);
  }

  #accept(connection: Connection): void {
    this.#connection = connection;
    this.#rest = "";
    connection.start({
      data: (chunk) => {
        this.#rest += Buffer.from(chunk).toString("latin1");
        connection.release(chunk, chunk.length);
        for (let end = this.#rest.indexOf("\n"); end >= 0; end = this.#rest.indexOf("\n")) {
          const line = this.#rest.slice(0, end);
          this.#rest = this.#rest.slice(end + 1);
          // The mark ends whatever stood before it.
          this.#command(JSON.parse(line.slice(line.lastIndexOf("\xff") + 1)));
        }
      },
      drain: () => {},
      close: () => {},
    });
    if (this.leftOver !== undefined) connection.write([Buffer.from(this.leftOver, "latin1")]);
  }

  #command(command: Command): void {
    this.log.push(command.execute);
    const other = this.intercept(command.execute);
    if (other === "slow" || this.#queue.length > 0) this.#queue.push(command);
    if (other === "slow" || other === "hang" || this.#queue.length > 0) return;
    if (other === "vanish") {
      this.#connection?.destroy();
      return;
    }
    if (other instanceof Error) {
      this.#say({ error: { class: "GenericError", desc: other.message } });
      return;
    }
    this.#do(command);
  }

  #do({ execute: command, arguments: input }: Command): void {
    switch (command) {
      case "guest-sync-delimited":
        this.#connection?.write([Buffer.of(0xff)]);
        this.#say({ return: input?.id });
        return;
      case "guest-fsfreeze-freeze":
        this.isFrozen = true;
        this.#say({ return: this.fileSystems });
        return;
      case "guest-fsfreeze-thaw":
        this.#say({ return: this.isFrozen ? this.fileSystems : 0 });
        this.isFrozen = false;
        return;
      default:
        this.#say({ error: { class: "CommandNotFound", desc: `no command ${command}` } });
    }
  }
}
