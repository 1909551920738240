import { setImmediate } from "node:timers";
import type { Timer, Timers } from "../../../src/host/timers.ts";

/** Sleeping takes one turn of the loop, and nothing is ever late. */
export class QuickTimers implements Timers {
  slept = 0;

  after(_delayMs: number, _action: () => void): Timer {
    return { cancel() {} };
  }

  sleep(_delayMs: number): Promise<void> {
    this.slept++;
    return new Promise((resolve) => {
      setImmediate(resolve);
    });
  }

  soon(action: () => void): void {
    setImmediate(action);
  }
}
