import "reflect-metadata"; // what the X.509 library is built with expects it, loaded first
import { createPrivateKey, KeyObject, randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";
import { KelpieError, messageOf } from "../../base/errors.ts";

/** Texts in PEM; keys are PKCS #8. */
export interface CertificateAndKey {
  certificate: string;
  key: string;
}

export interface Validity {
  fromMs: number;
  days: number;
}

export interface Wanted extends Validity {
  /** The common name. */
  name: string;
  use: "server" | "client";
  /** Names and IP addresses that a server is reached by. */
  hosts: readonly string[];
}

const algorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
const signature = { name: "ECDSA", hash: "SHA-256" } as const;
const dayMs = 24 * 3600 * 1000;

/** An authority of one's own, that signs for servers and clients and for nobody else. */
export async function makeAuthority(name: string, validity: Validity): Promise<CertificateAndKey> {
  const keys = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      name: [{ CN: [name] }],
      ...timesOf(validity),
      signingAlgorithm: signature,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { certificate: pemOf(certificate), key: pemOfKey(keys.privateKey) };
}

/** A certificate signed by an authority, and its key. Throws "invalid" for what is no authority. */
export async function makeCertificate(
  authority: CertificateAndKey,
  wanted: Wanted,
): Promise<CertificateAndKey> {
  const issuer = parseAuthority(authority);
  const keys = await makeKeys();
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
  const { digitalSignature, keyEncipherment } = x509.KeyUsageFlags;
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    // QEMU wants both, though only RSA keys encipher others.
    new x509.KeyUsagesExtension(digitalSignature | keyEncipherment, true),
    new x509.ExtendedKeyUsageExtension([wanted.use === "server" ? serverAuth : clientAuth]),
    await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
    await x509.AuthorityKeyIdentifierExtension.create(issuer.certificate, false, webcrypto),
  ];
  if (wanted.hosts.length > 0) {
    const names = wanted.hosts.map((host) => {
      return { type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host };
    });
    extensions.push(new x509.SubjectAlternativeNameExtension(names));
  }
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: [{ CN: [wanted.name] }],
      issuer: issuer.certificate.subject,
      ...timesOf(wanted),
      signingAlgorithm: signature,
      publicKey: keys.publicKey,
      signingKey: issuer.key,
      extensions,
    },
    webcrypto,
  );
  return { certificate: pemOf(certificate), key: pemOfKey(keys.privateKey) };
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
}

function parseAuthority({ certificate, key }: CertificateAndKey) {
  try {
    return {
      certificate: new x509.X509Certificate(certificate),
      key: createPrivateKey(key).toCryptoKey(algorithm, false, ["sign"]),
    };
  } catch (error) {
    // OpenSSL says nothing of a key but that it cannot be read.
    throw new KelpieError("invalid", `the authority cannot be used: ${messageOf(error)}`, {
      cause: error,
      remedy: "it needs a certificate and a P-256 key, both in PEM, as kelpie tls init makes them",
    });
  }
}

/** An hour ago, for those whose clocks are late. */
function timesOf({ fromMs, days }: Validity): { notBefore: Date; notAfter: Date } {
  return {
    notBefore: new Date(fromMs - 3600 * 1000),
    notAfter: new Date(fromMs + days * dayMs),
  };
}

/** Positive, and never 0. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem").trimEnd()}\n`;
}

function pemOfKey(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: "pkcs8", format: "pem" }).toString();
}
