import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** How long a guest may take for an answer, on a machine that does other things too. */
const patienceMs = 120_000;
const tryAgainMs = 20;

/** A guest's serial line, on a Unix socket: what is typed, and what it says. */
export class SerialLine implements AsyncDisposable {
  readonly #socket: Socket;
  #said = "";
  #wake: () => void = () => {};

  static async connect(path: string): Promise<SerialLine> {
    const deadlineMs = performance.now() + patienceMs;
    for (;;) {
      const socket = connect(path);
      const error = await new Promise<Error | undefined>((resolve) => {
        socket.once("connect", () => resolve(undefined));
        socket.once("error", resolve);
      });
      if (error === undefined) return new SerialLine(socket);
      if (performance.now() > deadlineMs) throw error;
      await sleep(tryAgainMs);
    }
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      this.#said += text;
      this.#wake();
    });
    socket.on("error", () => {}); // Seen as silence.
  }

  send(text: string): void {
    this.#socket.write(text, "latin1");
  }

  /** What the guest says up to the end of `pattern`; that is taken off. Fails after two minutes. */
  async expect(pattern: RegExp): Promise<string> {
    const text = await this.expectSoon(pattern, patienceMs);
    if (text !== undefined) return text;
    assert.fail(`the guest did not say ${pattern}; it said:\n${this.#said}`);
  }

  /** The same; undefined if it does not say it in time. */
  async expectSoon(pattern: RegExp, limitMs: number): Promise<string | undefined> {
    const deadlineMs = performance.now() + limitMs;
    for (;;) {
      const match = pattern.exec(this.#said);
      if (match !== null) {
        const end = match.index + match[0].length;
        const text = this.#said.slice(0, end);
        this.#said = this.#said.slice(end);
        return text;
      }
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) return undefined;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const timer = setTimeout(resolve, leftMs);
      await promise;
      clearTimeout(timer);
    }
  }

  /** Sends it and waits for the end of the line that answers. */
  async ask(text: string): Promise<string> {
    this.#said = "";
    this.send(text);
    return (await this.expect(/.*\n/)).trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }
}
