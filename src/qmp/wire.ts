import { KelpieError } from "../base/errors.ts";

/**
 * Lines of JSON, as QMP has them (QEMU's docs/interop/qmp-spec.txt): both sides send one object a line,
 * ended by CR LF or LF; a string never holds a line end unescaped.
 */

/** A monitor that describes hundreds of block nodes stays under a megabyte. */
export const messageBytesMax = 2 ** 24;

const lineEnd = 0x0a;

/** Takes bytes as they come, gives whole messages. */
export class MessageReader {
  #parts: Uint8Array[] = [];
  #length = 0;

  /** The messages that end within `chunk`. Throws "io" for a line that is too long or is no object. */
  push(chunk: Uint8Array): Record<string, unknown>[] {
    const messages: Record<string, unknown>[] = [];
    let start = 0;
    for (let end = chunk.indexOf(lineEnd); end >= 0; end = chunk.indexOf(lineEnd, start)) {
      this.#add(chunk.subarray(start, end));
      start = end + 1;
      const text = this.#take().trim();
      if (text !== "") messages.push(parseMessage(text));
    }
    this.#add(chunk.subarray(start));
    return messages;
  }

  #add(part: Uint8Array): void {
    this.#length += part.length;
    if (this.#length > messageBytesMax) {
      throw new KelpieError(
        "io",
        `a message of the monitor is longer than ${messageBytesMax} bytes`,
      );
    }
    // Copied: the bytes are lent.
    if (part.length > 0) this.#parts.push(part.slice());
  }

  #take(): string {
    const text = Buffer.concat(this.#parts).toString("utf8");
    this.#parts = [];
    this.#length = 0;
    return text;
  }
}

export interface Command {
  execute: string;
  arguments?: Record<string, unknown>;
  id?: number;
}

export function encodeMessage(message: Command): Uint8Array {
  return Buffer.from(`${JSON.stringify(message)}\n`);
}

function parseMessage(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new KelpieError("io", "what came from the monitor is not JSON", { cause: error });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new KelpieError("io", "what came from the monitor is not an object");
}
