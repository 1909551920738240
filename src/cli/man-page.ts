import type { Command } from "commander";
import { encodeUtf8 } from "../base/bytes.ts";
import { isKelpieError } from "../base/errors.ts";
import type { Cli } from "./command.ts";
import { argumentText, type CommandNode, commandTree, flatten } from "./command-tree.ts";

/** Shown with `kelpie man vdi create | man -l -`; the package brings a page for each command. */
export function addMan(program: Command, cli: Cli): void {
  program
    .command("man")
    .summary("print the manual page of a command")
    .description("Prints the manual page of a command, as man reads it.")
    .argument("[command...]", "the command, such as vdi create; kelpie itself without one")
    .option("--all <directory>", "write the pages of all commands there")
    .addHelpText(
      "after",
      `
Examples:
  kelpie man vdi create | man -l -
  kelpie man --all /usr/local/share/man/man1`,
    )
    .action((words: string[], options: { all?: string }, command: Command) =>
      cli.run(async () => {
        const tree = commandTree(program);
        if (options.all === undefined) await printPage(cli, tree, { words, command });
        else await writePages(cli, tree, options.all);
        return 0;
      }),
    );
}

async function printPage(
  { context }: Cli,
  tree: CommandNode,
  { words, command }: { words: string[]; command: Command },
): Promise<void> {
  const path = [tree.path, ...words].join(" ");
  const node = flatten(tree).find((one) => one.path === path);
  if (node === undefined) command.error(`error: there is no command ${path}`);
  else await context.stdout.write(manPage(node, { tree, version: context.version }));
}

async function writePages({ context }: Cli, tree: CommandNode, directory: string): Promise<void> {
  const { files } = context.host;
  await files.makeDirectory(directory);
  for (const node of flatten(tree)) {
    const path = `${directory}/${pageName(node)}.1`;
    await files.remove(path).catch(ignoreMissing);
    const page = await files.open(path, { access: "create" });
    try {
      await page.write([encodeUtf8(manPage(node, { tree, version: context.version }))], 0);
    } finally {
      await page.close();
    }
  }
}

function ignoreMissing(error: unknown): void {
  if (!isKelpieError(error, "not-found")) throw error;
}

/** "kelpie-vdi-create" */
export function pageName({ path }: CommandNode): string {
  return path.replaceAll(" ", "-");
}

/** A page for man(1), in the macros of man(7). */
export function manPage(
  node: CommandNode,
  { tree, version }: { tree: CommandNode; version: string },
): string {
  const { path, summary, description, children, options, notes } = node;
  const title = pageName(node).toUpperCase();
  const words = [
    ...node.arguments.map(argumentText),
    ...(children.length > 0 ? ["<command>"] : []),
  ];
  const all = node === tree ? options : [...options, ...tree.options];
  const parts = [
    `.TH ${word(title)} 1 "" ${word(`Kelpie ${version}`)} ${word("Kelpie")}`,
    section("NAME", `${text(pageName(node))} \\- ${text(summary)}`),
    section("SYNOPSIS", `.B ${text(path)}\n${text(["[options]", ...words].join(" "))}`),
    section("DESCRIPTION", text(description)),
    section(
      "ARGUMENTS",
      node.arguments.map((one) => item(argumentText(one), one.description)).join(""),
    ),
    section("COMMANDS", children.map((one) => item(one.name, one.summary)).join("")),
    section("OPTIONS", all.map(({ flags, description: what }) => item(flags, what)).join("")),
    section("NOTES", notes === "" ? "" : `.nf\n${text(notes)}\n.fi`),
    section("SEE ALSO", seeAlso(node, tree)),
  ];
  return `${parts.filter((part) => part !== "").join("\n")}\n`;
}

function seeAlso(node: CommandNode, tree: CommandNode): string {
  const above = flatten(tree).find(({ children }) => children.includes(node));
  const pages = [above, ...node.children].filter((one) => one !== undefined);
  return pages.map((one) => `.BR ${text(pageName(one))} (1)`).join(",\n");
}

function section(title: string, body: string): string {
  return body === "" ? "" : `.SH ${title}\n${body.trimEnd()}`;
}

function item(term: string, what: string): string {
  return `.TP\n.B ${text(term)}\n${text(what)}\n`;
}

/** A backslash begins a command of roff, as do a dot and an apostrophe at the start of a line. */
function text(plain: string): string {
  return plain
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gm, "\\&$1");
}

function word(plain: string): string {
  return `"${text(plain).replaceAll('"', "")}"`;
}
