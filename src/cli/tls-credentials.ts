import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import type { Address, TlsContext, TlsIdentity } from "../host/net.ts";
import type { ClientTls } from "../nbd/client-handshake.ts";
import type { UriTls } from "../nbd/uri.ts";
import type { CliContext } from "./context.ts";

/** Names of files as QEMU's tls-creds-x509 and libnbd look for them in a directory. */
export const tlsFiles = {
  authorities: "ca-cert.pem",
  revoked: "ca-crl.pem",
  server: { certificate: "server-cert.pem", key: "server-key.pem" },
  client: { certificate: "client-cert.pem", key: "client-key.pem" },
} as const;

type Parts = Pick<Host, "files" | "net">;

/** A server's identity, from a directory. Throws "not-found" and "invalid", naming the file. */
export async function loadServerTls(directory: string, { files, net }: Parts): Promise<TlsContext> {
  const { certificate, key } = tlsFiles.server;
  return net.tlsContext({
    ...(await loadAuthorities(directory, files)),
    certificate: await mustRead(`${directory}/${certificate}`, files),
    key: await mustRead(`${directory}/${key}`, files),
  });
}

/** A client's: with a certificate of its own if there is one in the directory. */
export async function loadClientTls(directory: string, { files, net }: Parts): Promise<TlsContext> {
  const { certificate, key } = tlsFiles.client;
  const own = await readIfThere(`${directory}/${certificate}`, files);
  return net.tlsContext({
    ...(await loadAuthorities(directory, files)),
    certificate: own,
    key: own === undefined ? undefined : await mustRead(`${directory}/${key}`, files),
  });
}

/** What a URI of a TLS scheme comes to. Throws "invalid" if it names no certificates. */
export async function clientTls(
  { host }: CliContext,
  address: Address,
  { certificates, hostName }: UriTls,
): Promise<ClientTls> {
  if (certificates === undefined) {
    throw new KelpieError("invalid", "the NBD URI names no certificates", {
      remedy: "add ?tls-certificates=DIR, a directory with ca-cert.pem in it",
    });
  }
  const context = await loadClientTls(certificates, host);
  return { context, hostName: hostName ?? hostNameOf(address) };
}

/** An address that stands for all of a machine's is in no certificate, but localhost is. */
function hostNameOf(address: Address): string {
  const isLocal = address.kind === "unix" || address.host === "0.0.0.0" || address.host === "::";
  return isLocal ? "localhost" : address.host;
}

async function loadAuthorities(directory: string, files: Host["files"]): Promise<TlsIdentity> {
  return {
    authorities: await mustRead(`${directory}/${tlsFiles.authorities}`, files),
    revoked: await readIfThere(`${directory}/${tlsFiles.revoked}`, files),
  };
}

async function readIfThere(path: string, files: Host["files"]): Promise<string | undefined> {
  try {
    return new TextDecoder().decode(await files.readFile(path));
  } catch (error) {
    if (isKelpieError(error, "not-found")) return undefined;
    throw error;
  }
}

async function mustRead(path: string, files: Host["files"]): Promise<string> {
  const text = await readIfThere(path, files);
  if (text !== undefined) return text;
  throw new KelpieError("not-found", `TLS certificates: there is no ${path}`, {
    remedy: "kelpie tls init DIR makes an authority and certificates, or put yours there",
  });
}
