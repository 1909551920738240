import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/*
 * A transcript: what a real client and a server said, request by request. Lines:
 *
 *   $ command              that was run, for people
 *   1 open                 connection 1, 2, …
 *   1 > header payload     a request: 48 bytes, and what it brought
 *   1 < header payload     a response, and what it brought
 *   1 close                by the client
 *
 * Bytes are in hex; "00*4608" is a byte many times.
 */

export type Event =
  | { kind: "command"; line: string }
  | { kind: "open"; connection: number }
  | { kind: "close"; connection: number }
  | { kind: "request" | "response"; connection: number; header: Buffer; payload: Buffer };

export const transcriptsDirectory = join(import.meta.dirname, "transcripts");

export function keptTranscripts(): { name: string; events: Event[] }[] {
  return readdirSync(transcriptsDirectory)
    .sort()
    .map((file) => ({
      name: file.replace(".txt", ""),
      events: parseTranscript(readFileSync(join(transcriptsDirectory, file), "utf8")),
    }));
}

export function formatTranscript(events: readonly Event[]): string {
  return events.map((event) => `${formatEvent(event)}\n`).join("");
}

function formatEvent(event: Event): string {
  switch (event.kind) {
    case "command":
      return `$ ${event.line}`;
    case "request":
    case "response": {
      const mark = event.kind === "request" ? ">" : "<";
      const parts = [event.connection, mark, formatBytes(event.header), formatBytes(event.payload)];
      return parts.join(" ").trimEnd();
    }
    default:
      return `${event.connection} ${event.kind}`;
  }
}

export function parseTranscript(text: string): Event[] {
  return text.trimEnd().split("\n").map(parseEvent);
}

function parseEvent(line: string): Event {
  if (line.startsWith("$ ")) return { kind: "command", line: line.slice(2) };
  const [number, what = "", header = "", rest = ""] = line.split(" ");
  const connection = Number(number);
  if (what === "open" || what === "close") return { kind: what, connection };
  const kind = what === ">" ? "request" : "response";
  return { kind, connection, header: parseBytes(header), payload: parseBytes(rest) };
}

/** Runs shorter than this are written out. */
const runMin = 8;

function formatBytes(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    let end = at + 1;
    while (end < bytes.length && bytes[end] === bytes[at]) end++;
    const byte = (bytes[at] as number).toString(16).padStart(2, "0");
    parts.push(end - at >= runMin ? `,${byte}*${end - at},` : byte.repeat(end - at));
    at = end;
  }
  return parts.join("").replaceAll(",,", ",").replace(/^,|,$/g, "");
}

function parseBytes(text: string): Buffer {
  const parts = text.split(",").map((part) => {
    const [byte = "", count] = part.split("*");
    const bytes = Buffer.from(byte, "hex");
    return count === undefined ? bytes : Buffer.alloc(Number(count), bytes);
  });
  return Buffer.concat(parts);
}
