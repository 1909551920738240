import { createHash, createHmac, timingSafeEqual } from "node:crypto";
// biome-ignore lint/style/noRestrictedImports: types only.
import type { IncomingHttpHeaders } from "node:http";
import { makeProblem, type Problem } from "./problem.ts";

/**
 * Who may use the API over TCP. Any page in any browser of this machine can send requests to a port of it,
 * so a token alone is not enough: a name that its owner makes lead here must not pass as ours (rebinding),
 * and a page from elsewhere must not use the cookie of ours.
 */
export class Access {
  readonly #tokenHash: Buffer;
  readonly #session: string;
  readonly #sessionHash: Buffer;

  constructor(settings: { token: string }) {
    this.#tokenHash = hashOf(settings.token);
    // The same after a restart: a page that is open goes on.
    this.#session = createHmac("sha256", settings.token).update("console session").digest("hex");
    this.#sessionHash = hashOf(this.#session);
  }

  /** Undefined if the request comes from where it may come from. `isPage`: it asks for the page itself. */
  refuseSender(headers: IncomingHttpHeaders, isPage: boolean): Problem | undefined {
    const { host, origin } = headers;
    const name = nameOf(host);
    if (name === undefined || !(name === "localhost" || isAddress(name))) {
      const remedy =
        "use the address, or localhost: names are refused, because anybody's may lead here";
      return makeProblem(
        421,
        "invalid",
        `there is no host ${host ?? "without a name"} here`,
        remedy,
      );
    }
    if (origin !== undefined && origin.toLowerCase() !== `http://${host}`.toLowerCase()) {
      return makeProblem(403, "invalid", `pages of ${origin} may not use this server`);
    }
    const site = headers["sec-fetch-site"];
    const isForeign = site === "cross-site" || site === "same-site";
    // Somebody may follow a link to the page: it is the page that asks for everything else.
    const isLink = isPage && headers["sec-fetch-mode"] === "navigate";
    if (isForeign && !isLink) {
      return makeProblem(403, "invalid", "pages of other sites may not use this server");
    }
    return undefined;
  }

  /** By the token in Authorization, or by the cookie that a browser got for it. */
  isAllowed(headers: IncomingHttpHeaders, cookieName: string): boolean {
    if (this.hasToken(headers)) return true;
    const cookie = cookieOf(headers.cookie, cookieName);
    return cookie !== undefined && timingSafeEqual(hashOf(cookie), this.#sessionHash);
  }

  hasToken({ authorization }: IncomingHttpHeaders): boolean {
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
    return token !== undefined && timingSafeEqual(hashOf(token), this.#tokenHash);
  }

  /** What a browser keeps: no script can read it, and no other site's page makes it be sent. */
  cookie(name: string): string {
    return `${name}=${this.#session}; Path=/; HttpOnly; SameSite=Strict`;
  }

  noCookie(name: string): string {
    return `${name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0`;
  }
}

export function unauthorized(): Problem {
  const remedy = "send it as Authorization: Bearer …; it is in the file `token` of the store";
  return makeProblem(401, "invalid", "the token is missing or wrong", remedy);
}

/** So that comparing takes as long whatever is compared. */
function hashOf(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Without the port: a tunnel may have another one. */
function nameOf(host: string | undefined): string | undefined {
  return /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::\d{1,5})?$/i.exec(host ?? "")?.[1]?.toLowerCase();
}

function isAddress(name: string): boolean {
  return name.startsWith("[") || /^\d{1,3}(\.\d{1,3}){3}$/.test(name);
}

function cookieOf(header: string | undefined, name: string): string | undefined {
  for (const part of (header ?? "").split(";")) {
    const at = part.indexOf("=");
    if (at > 0 && part.slice(0, at).trim() === name) return part.slice(at + 1).trim();
  }
  return undefined;
}
