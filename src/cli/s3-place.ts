import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { KelpieError } from "../base/errors.ts";
import type { GlobalOptions } from "./command.ts";
import type { CliContext, S3Options } from "./context.ts";

const scheme = "s3://";

export function isS3Url(store: string): boolean {
  return store.startsWith(scheme);
}

/** "s3://bucket/some/prefix": the prefix ends in "/" or is "". */
export function parseS3Url(url: string): { bucket: string; prefix: string } {
  const [bucket = "", ...parts] = url.slice(scheme.length).replace(/\/+$/, "").split("/");
  const isBucket = /^[a-z0-9][a-z0-9._-]{1,62}$/i.test(bucket);
  if (!isBucket || parts.some((part) => !/^[\w!.*'()-]+$/.test(part))) {
    throw new KelpieError("invalid", `store ${url}: it is not a bucket and a prefix`, {
      remedy: "write it like s3://bucket/prefix",
    });
  }
  return { bucket, prefix: parts.length === 0 ? "" : `${parts.join("/")}/` };
}

/** On this machine: sockets, segments that are being written, and a cache. */
export function s3Directory(context: CliContext, url: string, local: string | undefined): string {
  const { bucket, prefix } = parseS3Url(url);
  const given = local ?? context.env.KELPIE_LOCAL;
  if (given) return resolve(given);
  const { XDG_STATE_HOME, HOME } = context.env;
  if (!XDG_STATE_HOME && !HOME) {
    throw new KelpieError("invalid", `${url}: there is no place for what is kept on this machine`, {
      remedy: "name a directory with --local, or set $HOME",
    });
  }
  const key = createHash("sha256").update(`${bucket}/${prefix}`).digest("hex").slice(0, 16);
  return `${XDG_STATE_HOME || `${HOME}/.local/state`}/kelpie/s3-${bucket}-${key}`;
}

/** What the command line says of an object store, in the words of what opens it. */
export function s3OptionsOf(options: GlobalOptions): S3Options {
  const { s3Endpoint, s3Region, s3PathStyle } = options;
  if (s3Endpoint !== undefined && !/^https?:\/\/[^/]+\/?$/.test(s3Endpoint)) {
    throw new KelpieError("invalid", `--s3-endpoint ${s3Endpoint}: it is not a URL`, {
      remedy: "write it like http://127.0.0.1:7480 or https://s3.example.com",
    });
  }
  return {
    ...(s3Endpoint === undefined ? {} : { endpoint: s3Endpoint }),
    ...(s3Region === undefined ? {} : { region: s3Region }),
    ...(s3PathStyle === undefined ? {} : { pathStyle: s3PathStyle === "on" }),
  };
}
