import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tlsFiles } from "../../src/cli/tls-credentials.ts";
import {
  type CertificateAndKey,
  makeAuthority,
  makeCertificate,
} from "../../src/host/node/authority.ts";

const dayMs = 24 * 3600 * 1000;

/** An authority for tests, and what it signs. */
export class TestAuthority {
  readonly own: CertificateAndKey;

  private constructor(own: CertificateAndKey) {
    this.own = own;
  }

  static async create(name = "test authority"): Promise<TestAuthority> {
    return new TestAuthority(await makeAuthority(name, { fromMs: Date.now(), days: 30 }));
  }

  static of(own: CertificateAndKey): TestAuthority {
    return new TestAuthority(own);
  }

  server(hosts: readonly string[] = ["localhost", "127.0.0.1"]): Promise<CertificateAndKey> {
    const times = { fromMs: Date.now(), days: 30 };
    return makeCertificate(this.own, { name: "server", use: "server", hosts, ...times });
  }

  client(name = "client"): Promise<CertificateAndKey> {
    const times = { fromMs: Date.now(), days: 30 };
    return makeCertificate(this.own, { name, use: "client", hosts: [], ...times });
  }

  /** Was good until yesterday. */
  expired(use: "server" | "client"): Promise<CertificateAndKey> {
    const hosts = use === "server" ? ["localhost", "127.0.0.1"] : [];
    const times = { fromMs: Date.now() - 10 * dayMs, days: 9 };
    return makeCertificate(this.own, { name: use, use, hosts, ...times });
  }
}

export interface DirectoryContents {
  authority: TestAuthority;
  server?: CertificateAndKey;
  client?: CertificateAndKey;
}

/** A directory of certificates as QEMU, libnbd and Kelpie look for them. */
export async function certificateDirectory(
  directory: string,
  { authority, server, client }: DirectoryContents,
): Promise<string> {
  await mkdir(directory, { recursive: true });
  const write = (name: string, text: string) =>
    writeFile(join(directory, name), text, { mode: 0o600 });
  await write(tlsFiles.authorities, authority.own.certificate);
  for (const role of ["server", "client"] as const) {
    const own = role === "server" ? server : client;
    if (own === undefined) continue;
    await write(tlsFiles[role].certificate, own.certificate);
    await write(tlsFiles[role].key, own.key);
  }
  return directory;
}
