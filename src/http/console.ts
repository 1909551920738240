// biome-ignore lint/style/noRestrictedImports: the page's files belong to the program, not to a store.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { gzipSync } from "node:zlib";
import type { FastifyInstance } from "fastify";
import type { RouteConfig } from "./app.ts";

/** A file of the page, as it is sent. */
interface ConsoleFile {
  type: string;
  bytes: Buffer;
  /** Undefined where it would not be shorter. */
  gzipped: Buffer | undefined;
  /** Its name changes with its contents. */
  isNamedByContents: boolean;
}

/** By path: "/", "/assets/index-1a2b3c.js". */
export type ConsoleFiles = ReadonlyMap<string, ConsoleFile>;

const types: Partial<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Nothing from elsewhere, no inline scripts or styles, no frames, no strings that become code. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

/** The page as it was built into a directory; undefined if it was not. All of it is held in memory. */
export function loadConsole(directory: string): ConsoleFiles | undefined {
  if (!existsSync(join(directory, "index.html"))) return undefined;
  const files = new Map<string, ConsoleFile>();
  for (const entry of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    const type = types[extname(entry)];
    if (type === undefined) continue;
    const bytes = readFileSync(join(directory, entry));
    const gzipped = gzipSync(bytes, { level: 9 });
    const path = entry === "index.html" ? "/" : `/${entry}`;
    files.set(path, {
      type,
      bytes,
      gzipped: gzipped.length < bytes.length ? gzipped : undefined,
      isNamedByContents: entry.startsWith("assets/"),
    });
  }
  return files;
}

/** The page at "/", or what to do to have it. */
export function addConsole(app: FastifyInstance, files: ConsoleFiles | undefined): void {
  const open = { config: { open: true } satisfies RouteConfig };
  if (files === undefined) {
    app.get("/", open, (_request, reply) => {
      reply.code(404).type("text/plain; charset=utf-8").send(notBuilt);
    });
    return;
  }
  for (const [path, file] of files) {
    app.get(path, open, (request, reply) => {
      reply
        .type(file.type)
        .header("content-security-policy", policy)
        .header("vary", "accept-encoding");
      if (file.isNamedByContents)
        reply.header("cache-control", "public, max-age=31536000, immutable");
      else reply.header("cache-control", "no-cache");
      const isGzip = /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""));
      if (!isGzip || file.gzipped === undefined) return reply.send(file.bytes);
      return reply.header("content-encoding", "gzip").send(file.gzipped);
    });
  }
}

const notBuilt = `The console is not built in this checkout. Build it with

    npm run build:web

and start the server again. The API is there all the same: /v1/openapi.json describes it.
`;
