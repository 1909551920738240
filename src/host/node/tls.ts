import { constants } from "node:crypto";
import { isIP, type Socket } from "node:net";
import * as tls from "node:tls";
import { assert } from "../../base/assert.ts";
import { KelpieError, messageOf } from "../../base/errors.ts";
import type { TlsContext, TlsIdentity, TlsPeer, TlsUpgrade } from "../net.ts";

/** What Node makes a session from. */
class NodeTlsContext implements TlsContext {
  readonly kind = "tls-context";
  readonly options: tls.SecureContextOptions;

  constructor(options: tls.SecureContextOptions) {
    this.options = options;
  }
}

/** Throws "invalid" for what OpenSSL does not take; keys are never in its messages. */
export function createTlsContext(identity: TlsIdentity): TlsContext {
  const { authorities, revoked, certificate, key } = identity;
  const options: tls.SecureContextOptions = {
    ca: authorities,
    minVersion: "TLSv1.2",
    // Without tickets no session is resumed: every connection shows its certificate, to the authority that
    // is trusted now. Renegotiation costs a server more than a client.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  };
  if (revoked !== undefined) options.crl = revoked;
  if (certificate !== undefined) options.cert = certificate;
  if (key !== undefined) options.key = key;
  try {
    tls.createSecureContext(options);
  } catch (error) {
    throw new KelpieError("invalid", `TLS certificates: ${messageOf(error)}`, { cause: error });
  }
  return new NodeTlsContext(options);
}

export interface SecuredSocket {
  socket: tls.TLSSocket;
  peer: TlsPeer;
}

/** Turns a connected socket, on which nothing is under way, into a TLS session. */
export async function upgradeToTls(
  plain: Socket,
  upgrade: TlsUpgrade & { peer: string },
): Promise<SecuredSocket> {
  const { context } = upgrade;
  assert(context instanceof NodeTlsContext, "a TLS context comes from the net it is used with");
  const options = context.options;
  const socket =
    upgrade.role === "server"
      ? await asServer(plain, { ...upgrade, options })
      : await asClient(plain, { ...upgrade, options });
  return {
    socket,
    peer: { version: socket.getProtocol() ?? "", name: commonNameOf(socket) },
  };
}

interface Wanted {
  options: tls.SecureContextOptions;
  peer: string;
}

/**
 * A server of Node's own that never listens, for this one connection: it is given the socket, and it is
 * what checks the client's certificate and says what went wrong.
 */
function asServer(
  plain: Socket,
  { options, peer, verifyPeer }: Wanted & { verifyPeer: boolean },
): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const server = tls.createServer({
      ...options,
      requestCert: verifyPeer,
      rejectUnauthorized: verifyPeer,
    });
    server.on("secureConnection", (socket) => {
      socket.on("error", () => {}); // until the connection listens; it closes then too
      resolve(socket);
    });
    server.on("tlsClientError", (error, socket) => {
      // What is wrong with its certificate, if that is it.
      reject(failed(peer, socket.authorizationError ?? error));
      socket.destroy();
    });
    server.emit("connection", plain);
  });
}

function asClient(
  plain: Socket,
  { options, peer, hostName }: Wanted & { hostName: string },
): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      ...options,
      socket: plain,
      host: hostName,
      // An address is not a name of the kind that a client announces.
      ...(isIP(hostName) === 0 ? { servername: hostName } : {}),
      rejectUnauthorized: true,
    });
    const fail = (error: Error): void => {
      reject(failed(peer, error));
      socket.destroy();
    };
    socket.on("error", fail);
    socket.once("close", () => fail(new Error("the connection ended")));
    socket.once("secureConnect", () => resolve(socket));
  });
}

/** Several of them are not a name. */
function commonNameOf(socket: tls.TLSSocket): string | undefined {
  const subject: Record<string, unknown> = { ...socket.getPeerCertificate().subject };
  return typeof subject.CN === "string" ? subject.CN : undefined;
}

function failed(peer: string, cause: unknown): KelpieError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  return new KelpieError("io", `TLS with ${peer}: ${reasons[code] ?? messageOf(cause)}`, { cause });
}

/** Codes of OpenSSL and Node for what people get wrong, in their words. */
const reasons: Record<string, string> = {
  CERT_HAS_EXPIRED: "the certificate has expired",
  CERT_NOT_YET_VALID: "the certificate is not valid yet; is the clock right?",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the certificate is not of an authority in ca-cert.pem",
  SELF_SIGNED_CERT_IN_CHAIN: "the certificate is not of an authority in ca-cert.pem",
  UNABLE_TO_GET_ISSUER_CERT: "the certificate is not of an authority in ca-cert.pem",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "the certificate is not of an authority in ca-cert.pem",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "the certificate is not of an authority in ca-cert.pem",
  CERT_REVOKED: "the certificate was revoked",
  CRL_HAS_EXPIRED: "ca-crl.pem has expired: get a new one from the authority",
  INVALID_PURPOSE: "the certificate is for another purpose",
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: "a certificate is needed, and none was sent",
  ECONNRESET: "the handshake was broken off",
};
