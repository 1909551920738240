/** What a trace keeps of its lines. */
export interface TraceSettings {
  /** Gets each line as it comes; without it they are only counted in. */
  print?: ((line: string) => void) | undefined;
}

/**
 * All that happens in a world, in order: what completed and what was answered. Two runs of one seed
 * have the same digest, or something that is not the seed has decided.
 */
export class Trace {
  readonly #print: ((line: string) => void) | undefined;
  #low = 0x811c9dc5;
  #high = 0x9747b28c;
  lines = 0;

  constructor(settings: TraceSettings = {}) {
    this.#print = settings.print;
  }

  /** 16 hex digits. */
  get digest(): string {
    const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");
    return hex(this.#high) + hex(this.#low);
  }

  event(elapsedMs: number, label: string): void {
    this.#mix(label, Math.round(elapsedMs * 1000));
    this.#print?.(`${elapsedMs.toFixed(3).padStart(12)}  ${label}`);
  }

  /** Something that was answered or decided, at the moment of the last event. */
  note(text: string): void {
    this.#mix(text, 0);
    this.#print?.(`${"".padStart(12)}    ${text}`);
  }

  /** For people only. */
  say(text: () => string): void {
    if (this.#print !== undefined) this.#print(`${"".padStart(12)}    ${text()}`);
  }

  #mix(text: string, number: number): void {
    this.lines++;
    let low = this.#low ^ number;
    for (let at = 0; at < text.length; at++) low = Math.imul(low ^ text.charCodeAt(at), 0x01000193);
    this.#low = low;
    this.#high = (Math.imul(this.#high, 31) + low) | 0;
  }
}
