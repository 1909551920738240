import type { Argument, Command, Option } from "commander";

/** A command as people may call it, for what is made from all of them. */
export interface CommandNode {
  /** "kelpie vdi create" */
  path: string;
  name: string;
  summary: string;
  description: string;
  arguments: readonly Argument[];
  options: readonly Option[];
  /** What its help says behind the options: examples. */
  notes: string;
  children: CommandNode[];
}

/** The commands of a program, with their options and those of the program itself. */
export function commandTree(command: Command, above = ""): CommandNode {
  const path = above === "" ? command.name() : `${above} ${command.name()}`;
  const description = command.description();
  return {
    path,
    name: command.name(),
    summary: command.summary() || firstSentence(description),
    description,
    arguments: command.registeredArguments,
    options: command.options.filter(({ hidden }) => !hidden),
    notes: notesOf(command),
    children: command.commands.map((child) => commandTree(child, path)),
  };
}

/** All of them, each before what is below it. */
export function flatten(node: CommandNode): CommandNode[] {
  return [node, ...node.children.flatMap(flatten)];
}

/** "<name> [file]" */
export function argumentText(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

function notesOf(command: Command): string {
  let text = "";
  const write = (more: string) => {
    text += more;
  };
  // What addHelpText listens to; its types do not say that it is an emitter.
  const emitter = command as unknown as { emit(event: string, context: object): boolean };
  emitter.emit("afterHelp", { error: false, command, write });
  return text.trim();
}

function firstSentence(text: string): string {
  return text.split(/[.:]\s/)[0] ?? text;
}
