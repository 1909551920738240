import { createInterface } from "node:readline/promises";
import { isKelpieError } from "../base/errors.ts";

/** The terminal that a person sits at. */
export interface Terminal {
  /** Keys as they are pressed, none of them with a meaning of its own, until `release`. */
  keys(): AsyncIterable<Uint8Array>;
  /** Gives the terminal back as it was. */
  release(): void;
  /** Lines, with a history and completion by Tab, until Ctrl-D. */
  lines(options: LineOptions): AsyncIterable<string>;
}

export interface LineOptions {
  prompt: string;
  /** Whole lines that begin as this one. */
  complete(line: string): Promise<string[]>;
}

/** As many lines as anybody goes back. */
const historyMax = 1000;

export function createTerminal(input: NodeJS.ReadStream, output: NodeJS.WriteStream): Terminal {
  return {
    async *keys() {
      input.setRawMode(true);
      yield* input as AsyncIterable<Uint8Array>;
    },
    release() {
      input.setRawMode(false);
      input.pause();
      input.unref();
    },
    async *lines({ prompt, complete }) {
      const editor = createInterface({
        input,
        output,
        prompt,
        historySize: historyMax,
        removeHistoryDuplicates: true,
        completer: async (line: string): Promise<[string[], string]> => {
          const found = await complete(line).catch((error: unknown) => {
            // The line is still the person's to finish.
            if (!isKelpieError(error)) throw error;
            return [];
          });
          return [found, line];
        },
      });
      try {
        editor.prompt();
        for await (const line of editor) {
          yield line;
          editor.prompt();
        }
      } finally {
        editor.close();
      }
    },
  };
}
