export interface Timer {
  cancel(): void;
}

export interface Timers {
  /** Calls `action` once after `delayMs`. Does not keep the process alive. */
  after(delayMs: number, action: () => void): Timer;
  /** Resolves after `delayMs`; keeps the process alive. */
  sleep(delayMs: number): Promise<void>;
  /** Runs `action` in a later turn of the event loop, after I/O that is ready was handled. */
  soon(action: () => void): void;
}
