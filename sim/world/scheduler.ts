import { assert } from "../../src/base/assert.ts";
import type { Clock } from "../../src/host/clock.ts";
import type { Timer, Timers } from "../../src/host/timers.ts";
import { VirtualTime } from "../memory-timers.ts";
import type { Chooser } from "../random.ts";
import type { Trace } from "./trace.ts";

export interface SchedulerComponents {
  chooser: Chooser;
  trace: Trace;
}

/** Something that will happen: a call that completes, bytes that arrive, a timer that fires. */
interface Event {
  atMs: number;
  label: string;
  action: () => void;
  isCancelled: boolean;
}

/**
 * Owns every completion of a world. What is due at the same virtual moment happens in an order that the
 * seed chooses, one at a time; between two of them everything that the first has set off runs. Time goes
 * on only when nothing is due.
 */
export class Scheduler implements Clock, Timers {
  readonly #chooser: Chooser;
  readonly #trace: Trace;
  /** An arbitrary moment, so that times in output are the same in every run. */
  readonly #startMs = 1_767_225_600_000;
  /** Where microtasks are given their turn. */
  readonly #turns = new VirtualTime();
  #elapsedMs = 0;
  #due: Event[] = [];
  /** A heap, the earliest first. */
  #later: Event[] = [];
  events = 0;

  constructor(components: SchedulerComponents) {
    this.#chooser = components.chooser;
    this.#trace = components.trace;
  }

  nowMs(): number {
    return this.#startMs + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  after(delayMs: number, action: () => void): Timer {
    return this.at(delayMs, "timer", action);
  }

  sleep(delayMs: number, label = "sleep"): Promise<void> {
    return new Promise((resolve) => {
      this.at(delayMs, label, resolve);
    });
  }

  soon(action: () => void): void {
    this.at(0, "turn", action);
  }

  at(delayMs: number, label: string, action: () => void): Timer {
    assert(delayMs >= 0 && Number.isFinite(delayMs), "a delay is a finite number of milliseconds");
    const event: Event = { atMs: this.#elapsedMs + delayMs, label, action, isCancelled: false };
    if (delayMs === 0) this.#due.push(event);
    else push(this.#later, event);
    return {
      cancel: () => {
        event.isCancelled = true;
      },
    };
  }

  /** Nothing of what was to happen happens: the machine it was to happen on is gone. */
  clear(): void {
    this.#due = [];
    this.#later = [];
  }

  /** Lets all that can run without anything happening run. */
  turn(): Promise<void> {
    return this.#turns.sleep(0);
  }

  /** Lets one thing happen, and all that it sets off. False if nothing ever will. */
  async step(): Promise<boolean> {
    const event = this.#next();
    if (event === undefined) return false;
    this.events++;
    this.#trace.event(this.#elapsedMs, event.label);
    event.action();
    await this.turn();
    return true;
  }

  #next(): Event | undefined {
    for (;;) {
      if (this.#due.length === 0 && !this.#moveOn()) return undefined;
      const at = this.#due.length === 1 ? 0 : this.#chooser.below(this.#due.length);
      const event = this.#due[at] as Event;
      const last = this.#due.pop() as Event;
      if (last !== event) this.#due[at] = last;
      if (!event.isCancelled) return event;
    }
  }

  /** Moves the clock to the next moment at which something is due. */
  #moveOn(): boolean {
    const first = pop(this.#later);
    if (first === undefined) return false;
    if (!first.isCancelled) this.#elapsedMs = first.atMs;
    this.#due.push(first);
    while ((this.#later[0]?.atMs ?? Number.POSITIVE_INFINITY) <= this.#elapsedMs) {
      this.#due.push(pop(this.#later) as Event);
    }
    return true;
  }
}

function push(heap: Event[], event: Event): void {
  let at = heap.length;
  heap.push(event);
  while (at > 0) {
    const up = (at - 1) >> 1;
    if ((heap[up] as Event).atMs <= event.atMs) break;
    heap[at] = heap[up] as Event;
    at = up;
  }
  heap[at] = event;
}

function pop(heap: Event[]): Event | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (first === undefined || last === undefined || heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let down = at * 2 + 1;
    if (down >= heap.length) break;
    const right = heap[down + 1];
    if (right !== undefined && right.atMs < (heap[down] as Event).atMs) down++;
    if ((heap[down] as Event).atMs >= last.atMs) break;
    heap[at] = heap[down] as Event;
    at = down;
  }
  heap[at] = last;
  return first;
}
