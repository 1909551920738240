import { resolve } from "node:path";
import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";
import { parseIpAddress } from "../base/ip-address.ts";
import type { Files } from "../host/files.ts";
import type { CertificateAndKey } from "../host/node/authority.ts";
import { type Cli, createPrinter, type GlobalOptions } from "./command.ts";
import type { CliContext } from "./context.ts";
import { printable, shellWord } from "./text.ts";
import { tlsFiles } from "./tls-credentials.ts";

/** Kept apart from the certificates that are handed out: who has it can let anybody in. */
const authorityKey = "ca-key.pem";

export function addTls(program: Command, cli: Cli): void {
  const tls = program
    .command("tls")
    .summary("make certificates for kelpie serve --tls-dir")
    .description("Makes certificates, for those who have no authority of their own.");
  addInit(tls, cli);
  addClient(tls, cli);
}

interface InitOptions extends GlobalOptions {
  host?: string[];
  days: string;
}

function addInit(parent: Command, cli: Cli): void {
  parent
    .command("init")
    .summary("make a small authority, and certificates of a server and a client")
    .description(
      `Makes an authority, a server's certificate and a client's, with their keys, under the names that
QEMU's tls-creds-x509, libnbd and kelpie serve --tls-dir look for. The server's is for localhost and
what --host says. Clients get copies of ca-cert.pem, client-cert.pem and client-key.pem, never of
ca-key.pem: whoever has that can make certificates. It is not needed to serve; keep it elsewhere.`,
    )
    .argument("<dir>", "directory, which is made if it is not there")
    .option("--host <name>", "a name or IP address of the server; may be repeated", collect)
    .option(
      "--days <n>",
      "how long the certificates are good; the authority is for ten years",
      "825",
    )
    .action((directory: string, _options: object, command: Command) =>
      cli.run(() => init(cli.context, directory, command.optsWithGlobals<InitOptions>())),
    );
}

function addClient(parent: Command, cli: Cli): void {
  parent
    .command("client")
    .summary("make one more client's certificate")
    .description(
      `Makes a certificate for a client, signed by the authority in DIR, in a directory of its own: that is
what the client's machine gets. NAME is what kelpie serve --access knows it by.`,
    )
    .argument("<dir>", "directory that kelpie tls init made")
    .argument("<name>", "who the client is")
    .argument("<out>", "directory for the client, which is made if it is not there")
    .option("--days <n>", "how long the certificate is good", "825")
    .action((directory: string, name: string, out: string, _options: object, command: Command) => {
      const options = command.optsWithGlobals<InitOptions>();
      return cli.run(() => client(cli.context, { directory, name, out }, options));
    });
}

/** What a server is always reached by, from its own machine. */
const localHosts = ["localhost", "127.0.0.1", "::1"];
const authorityDays = 3652;

async function init(context: CliContext, dir: string, options: InitOptions): Promise<number> {
  const directory = resolve(dir);
  const { files, clock } = context.host;
  const days = parseDays(options.days);
  const hosts = [...new Set([...localHosts, ...(options.host ?? [])])];
  for (const host of hosts) checkHost(host);
  const fromMs = clock.nowMs();
  // Loaded here: no other command needs it.
  const { makeAuthority, makeCertificate } = await import("../host/node/authority.ts");
  const authority = await makeAuthority("Kelpie authority", { fromMs, days: authorityDays });
  const name = options.host?.[0] ?? "localhost";
  const server = await makeCertificate(authority, { name, use: "server", hosts, fromMs, days });
  const forClient = { name: "client", use: "client", hosts: [], fromMs, days } as const;
  const own = await makeCertificate(authority, forClient);
  await writeAll(files, directory, {
    [tlsFiles.authorities]: authority.certificate,
    [authorityKey]: authority.key,
    ...named(tlsFiles.server, server),
    ...named(tlsFiles.client, own),
  });
  await createPrinter(context, options.json === true).print({ directory, hosts, days }, () => {
    return `${printable(directory)}: an authority, and certificates for ${days} days
  server  ${hosts.map(printable).join(", ")}
  client  client
Serve with them:
  npx kelpie serve --tls-dir ${shellWord(directory)} --tls-verify-peer
`;
  });
  return 0;
}

async function client(
  context: CliContext,
  { directory, name, out }: { directory: string; name: string; out: string },
  options: InitOptions,
): Promise<number> {
  const { files, clock } = context.host;
  const read = async (file: string) =>
    new TextDecoder().decode(await files.readFile(`${resolve(directory)}/${file}`));
  const authority = {
    certificate: await read(tlsFiles.authorities),
    key: await read(authorityKey),
  };
  const days = parseDays(options.days);
  const wanted = { name, use: "client", hosts: [], fromMs: clock.nowMs(), days } as const;
  const { makeCertificate } = await import("../host/node/authority.ts");
  const made = await makeCertificate(authority, wanted);
  const target = resolve(out);
  await writeAll(files, target, {
    [tlsFiles.authorities]: authority.certificate,
    ...named(tlsFiles.client, made),
  });
  await createPrinter(context, options.json === true).print(
    { directory: target, name, days },
    () => {
      return `${printable(target)}: the certificate of ${printable(name)}, for ${days} days\n`;
    },
  );
  return 0;
}

function named(
  names: { certificate: string; key: string },
  { certificate, key }: CertificateAndKey,
): Record<string, string> {
  return { [names.certificate]: certificate, [names.key]: key };
}

/** None or all: what is there is never written over, and a file that is there is seen before any is made. */
async function writeAll(
  files: Files,
  directory: string,
  texts: Record<string, string>,
): Promise<void> {
  await files.makeDirectory(directory, 0o700);
  const there = await files.list(directory);
  const taken = Object.keys(texts).find((name) => there.includes(name));
  if (taken !== undefined) {
    throw new KelpieError("exists", `${directory}/${taken} is there already`, {
      remedy: "choose another directory; certificates are never written over",
    });
  }
  for (const [name, text] of Object.entries(texts)) {
    const mode = { access: "create", permissions: 0o600 } as const;
    const file = await files.open(`${directory}/${name}`, mode);
    try {
      await file.write([new TextEncoder().encode(text)], 0);
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await files.syncDirectory(directory);
}

function parseDays(text: string): number {
  const days = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (days > 0) return days;
  throw new KelpieError("invalid", `--days ${text}: it is a number of days from 1 to 9999`);
}

function checkHost(host: string): void {
  if (parseIpAddress(host) !== undefined || /^[0-9A-Za-z*][0-9A-Za-z.-]*$/.test(host)) return;
  throw new KelpieError("invalid", `--host ${host}: it is neither a host's name nor an IP address`);
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}
