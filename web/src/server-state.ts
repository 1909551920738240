import { useEffect, useState } from "preact/hooks";
import type { CallInput, CallName, CallOutput } from "../../src/control/calls.ts";
import type { ServerEvent } from "../../src/control/server-shapes.ts";
import { CallError, call } from "./api.ts";

/** "locked": it wants the token. "lost": it does not answer. */
export type Link = "connecting" | "open" | "lost" | "locked";

type Listener = (event: ServerEvent) => void;

/** How long the server is left alone between two tries. */
const retryMs = 1500;

/** The stream of events, and with it whether the server is there. */
class ServerLink {
  link: Link = "connecting";
  readonly #linkListeners = new Set<(link: Link) => void>();
  readonly #listeners = new Set<Listener>();
  #source: EventSource | undefined;
  #timer: number | undefined;

  connect(): void {
    window.clearTimeout(this.#timer);
    this.#source?.close();
    const source = new EventSource("/v1/events");
    this.#source = source;
    source.onopen = () => this.#set("open");
    source.onerror = () => void this.#failed();
    for (const kind of ["change", "job", "statistics"] as const) {
      source.addEventListener(kind, (message) => {
        const event = JSON.parse((message as MessageEvent<string>).data) as ServerEvent;
        for (const listener of this.#listeners) listener(event);
      });
    }
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onLink(listener: (link: Link) => void): () => void {
    this.#linkListeners.add(listener);
    return () => this.#linkListeners.delete(listener);
  }

  async #failed(): Promise<void> {
    this.#source?.close();
    // The event does not say why.
    try {
      await call("server.info", {});
      if (this.link === "open") this.#set("connecting");
    } catch (error) {
      this.#set(error instanceof CallError && error.status === 401 ? "locked" : "lost");
    }
    if (this.link === "locked") return;
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.connect(), retryMs);
  }

  #set(link: Link): void {
    if (link === this.link) return;
    this.link = link;
    for (const listener of this.#linkListeners) listener(link);
  }
}

export const server = new ServerLink();

export function useLink(): Link {
  const [link, setLink] = useState(server.link);
  useEffect(() => {
    // It may have opened between being drawn and this.
    setLink(server.link);
    return server.onLink(setLink);
  }, []);
  return link;
}

export function useEvents(listener: Listener): void {
  useEffect(() => server.listen(listener), []);
}

/** Answers that many changes make stale are asked for once. */
const settleMs = 120;

export interface Answer<T> {
  /** The newest there is; stays when a later question fails. */
  value: T | undefined;
  error: CallError | undefined;
  refresh: () => void;
}

/** Asks, and asks again when an event of one of these kinds comes, or the server is back. */
export function useCall<N extends CallName>(
  name: N,
  input: CallInput<N>,
  kinds: readonly ServerEvent["kind"][] = ["change"],
): Answer<CallOutput<N>> {
  const [answer, setAnswer] = useState<{ value?: CallOutput<N>; error?: CallError }>({});
  const [asked, setAsked] = useState(0);
  const key = `${name} ${JSON.stringify(input)}`;
  const refresh = () => setAsked((times) => times + 1);
  useEffect(() => setAnswer({}), [key]);
  useEffect(() => {
    let isOld = false;
    call(name, input).then(
      (value) => isOld || setAnswer({ value }),
      (error: CallError) => isOld || setAnswer((before) => ({ ...before, error })),
    );
    return () => {
      isOld = true;
    };
  }, [key, asked]);
  useEffect(() => {
    let timer: number | undefined;
    const soon = () => {
      window.clearTimeout(timer);
      timer = window.setTimeout(refresh, settleMs);
    };
    const ends = [
      server.listen((event) => kinds.includes(event.kind) && soon()),
      server.onLink((link) => link === "open" && soon()),
    ];
    return () => {
      window.clearTimeout(timer);
      for (const end of ends) end();
    };
  }, [key]);
  return { value: answer.value, error: answer.error, refresh };
}
