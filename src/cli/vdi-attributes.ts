import type { Command } from "commander";
import { joinBytes } from "../base/bytes.ts";
import { KelpieError } from "../base/errors.ts";
import {
  type AttributeName,
  deleteAttribute,
  getAttribute,
  setAttribute,
} from "../sheepdog/client-attributes.ts";
import { selectorOf } from "../sheepdog/client-names.ts";
import type { Cli } from "./command.ts";
import type { CliContext } from "./context.ts";
import { withClient } from "./node.ts";
import { checkSnapshot } from "./snapshot-name.ts";

interface AttributeOptions {
  snapshot?: string;
  exclusive?: boolean;
  delete?: boolean;
}

export function addSetAttribute(parent: Command, cli: Cli): void {
  parent
    .command("setattr")
    .summary("keep a value beside a disk, under a key")
    .description(
      `Keeps a value of up to 64 KiB beside a disk, under a key; without VALUE that of standard input.
Snapshots and rollbacks leave it alone. Over Sheepdog's protocol: the store needs its server.`,
    )
    .argument("<name>", "the disk")
    .argument("<key>", "up to 255 bytes")
    .argument("[value]", "the value")
    .option("-s, --snapshot <tag>", "of a snapshot")
    .option("-x, --exclusive", "only if there is none; fails with exit code 3")
    .option("-d, --delete", "remove it")
    .action(
      (
        name: string,
        key: string,
        value: string | undefined,
        options: AttributeOptions,
        command: Command,
      ) => {
        const attribute = attributeOf(name, key, options);
        return withClient(cli, command, async (client) => {
          if (options.delete === true) return await deleteAttribute(client, attribute);
          await setAttribute(client, attribute, {
            value: value === undefined ? await allOf(cli.context) : Buffer.from(value),
            exclusive: options.exclusive === true,
            nowMs: cli.context.host.clock.nowMs(),
          });
        });
      },
    );
}

export function addGetAttribute(parent: Command, cli: Cli): void {
  parent
    .command("getattr")
    .summary("write a value that setattr keeps to standard output")
    .argument("<name>", "the disk")
    .argument("<key>", "the key")
    .option("-s, --snapshot <tag>", "of a snapshot")
    .action((name: string, key: string, options: AttributeOptions, command: Command) => {
      const attribute = attributeOf(name, key, options);
      return withClient(cli, command, async (client) => {
        await cli.context.stdout.write(await getAttribute(client, attribute));
      });
    });
}

function attributeOf(name: string, key: string, { snapshot }: AttributeOptions): AttributeName {
  const selected = snapshot === undefined ? undefined : checkSnapshot(snapshot);
  return { selector: selectorOf(name, selected), key };
}

/** As much as a value may have, and one byte more: then it is refused. */
async function allOf({ stdin }: CliContext): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > valueBytesMax) throw new KelpieError("invalid", "the value is longer than 64 KiB");
  }
  return joinBytes(chunks);
}

const valueBytesMax = 65_536;
