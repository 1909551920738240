import type { Command } from "commander";
import { messageOf } from "../base/errors.ts";
import { formatSize } from "../base/sizes.ts";
import { SheepdogClient } from "../sheepdog/client.ts";
import { readNodes, readSpace } from "../sheepdog/client-cluster.ts";
import { listPoints } from "../sheepdog/client-list.ts";
import { formatAddress } from "./addresses.ts";
import { type Cli, createPrinter, type GlobalOptions } from "./command.ts";
import type { CliContext } from "./context.ts";
import { exitCode } from "./exit-codes.ts";
import { withSheepdog } from "./sheepdog-client.ts";
import { formatTable } from "./text.ts";

export function addNode(program: Command, cli: Cli): void {
  const node = program
    .command("node")
    .summary("look at the nodes of a Sheepdog cluster")
    .description(
      "Looks at the nodes of a Sheepdog cluster; of a store of Kelpie's the server is the only one.",
    );
  addList(node, cli);
  addInfo(node, cli);
}

function addList(parent: Command, cli: Cli): void {
  parent
    .command("list")
    .summary("list the nodes")
    .action((_options: object, command: Command) =>
      withClient(cli, command, async (client, print) => {
        const nodes = await readNodes(client);
        const listed = nodes.map(({ host, port, vnodes, zone }, id) => {
          return { id, host, port, vnodes, zone };
        });
        await print(listed, () =>
          formatTable(
            ["  Id", "Host:Port", "V-Nodes", "Zone"],
            listed.map(({ id, host, port, vnodes, zone }) => [
              String(id),
              hostAndPort({ host, port }),
              String(vnodes),
              String(zone),
            ]),
            ["  Id", "V-Nodes", "Zone"],
          ),
        );
      }),
    );
}

interface NodeSpace {
  id: number;
  host: string;
  port: number;
  /** Undefined: it did not answer. */
  space: { sizeBytes: number; usedBytes: number; freeBytes: number } | undefined;
}

function addInfo(parent: Command, cli: Cli): void {
  parent
    .command("info")
    .summary("show the space of each node, and what the disks could take")
    .action((_options: object, command: Command) =>
      withClient(cli, command, async (client, print) => {
        const nodes = await readNodes(client);
        const spaces: NodeSpace[] = [];
        for (const [id, { host, port }] of nodes.entries()) {
          // The address is the node's own; the one that is connected answers for itself in any case.
          const space = await spaceOf(
            cli.context,
            { host, port },
            nodes.length === 1 ? client : undefined,
          );
          spaces.push({ id, host, port, space });
        }
        const points = await listPoints(client);
        const virtualBytes = points
          .filter(({ snapshotMs }) => snapshotMs === 0)
          .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        await print({ nodes: spaces, virtualBytes }, () => describe(spaces, virtualBytes));
        const isWhole = spaces.every(({ space }) => space !== undefined);
        return isWhole ? exitCode.success : exitCode.systemFailure;
      }),
    );
}

async function spaceOf(
  context: CliContext,
  node: { host: string; port: number },
  connected: SheepdogClient | undefined,
): Promise<NodeSpace["space"]> {
  let client = connected;
  try {
    const nodes = [{ kind: "tcp", ...node } as const];
    client ??= await SheepdogClient.connect({ nodes, giveUpMs: 0 }, context.host);
    const { sizeBytes, freeBytes } = await readSpace(client);
    return { sizeBytes, usedBytes: sizeBytes - freeBytes, freeBytes };
  } catch (error) {
    // The others are worth showing.
    await context.stderr.write(`kelpie: ${hostAndPort(node)}: ${messageOf(error)}\n`);
    return undefined;
  } finally {
    if (connected === undefined) await client?.close();
  }
}

/** The columns of `dog node info`. */
function describe(nodes: readonly NodeSpace[], virtualBytes: number): string {
  const total = { sizeBytes: 0, usedBytes: 0, freeBytes: 0 };
  for (const { space } of nodes) {
    total.sizeBytes += space?.sizeBytes ?? 0;
    total.usedBytes += space?.usedBytes ?? 0;
    total.freeBytes += space?.freeBytes ?? 0;
  }
  const rows = nodes.map(({ id, space }) => [String(id), ...columnsOf(space)]);
  const table = formatTable(
    ["Id", "Size", "Used", "Avail", "Use%"],
    [...rows, ["Total", ...columnsOf(total)]],
    ["Size", "Used", "Avail", "Use%"],
  );
  return `${table}\nTotal virtual image size ${formatSize(virtualBytes)}\n`;
}

function columnsOf(space: NodeSpace["space"]): string[] {
  if (space === undefined) return ["-", "-", "-", "-"];
  const { sizeBytes, usedBytes, freeBytes } = space;
  const share = sizeBytes === 0 ? 0 : Math.floor((100 * usedBytes) / sizeBytes);
  return [formatSize(sizeBytes), formatSize(usedBytes), formatSize(freeBytes), `${share}%`];
}

export function hostAndPort({ host, port }: { host: string; port: number }): string {
  return formatAddress({ kind: "tcp", host, port });
}

/** Runs a command's body with a client and a way to print. A number it returns is the exit code. */
export function withClient(
  cli: Cli,
  command: Command,
  body: (
    client: SheepdogClient,
    print: (value: unknown, text: () => string) => Promise<void>,
  ) => Promise<unknown>,
): Promise<void> {
  const { store, json = false } = command.optsWithGlobals<GlobalOptions>();
  const printer = createPrinter(cli.context, json);
  return cli.run(async () => {
    const code = await withSheepdog(cli.context, store, (client) =>
      body(client, (value, text) => printer.print(value, text)),
    );
    return typeof code === "number" ? code : exitCode.success;
  });
}
