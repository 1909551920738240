import type { Command } from "commander";
import { KelpieError } from "../base/errors.ts";

/**
 * The command line as commander takes it: `kelpie help vdi` is `kelpie vdi --help`. Refuses a first
 * word that is no command; commander would count it as an argument too many.
 */
export function prepare(argv: readonly string[], program: Command): string[] {
  const [first, second] = wordsOf(argv);
  if (first === undefined) return [...argv];
  if (first.text === "help") {
    return prepare([...argv.toSpliced(first.at, 1), "--help"], program);
  }
  const command = childOf(program, first.text);
  if (command === undefined) throw unknownCommand(first.text, second?.text, program);
  if (second?.text === "help" && command.commands.length > 0) {
    return [...argv.toSpliced(second.at, 1), "--help"];
  }
  return [...argv];
}

/** "kelpie vdi create", as far as the words are commands. */
export function commandPath(argv: readonly string[], program: Command): string {
  let command = program;
  let path = program.name();
  for (const { text } of wordsOf(argv)) {
    const child = childOf(command, text);
    if (child === undefined) break;
    command = child;
    path += ` ${text}`;
  }
  return path;
}

interface Word {
  text: string;
  /** Its index in the command line. */
  at: number;
}

/** The first words that are no options; --store is the only option of the program with a value. */
function wordsOf(argv: readonly string[]): Word[] {
  const words: Word[] = [];
  for (let at = 0; at < argv.length && words.length < depthMax; at++) {
    const text = argv[at] ?? "";
    if (text === "--store") at++;
    else if (!text.startsWith("-")) words.push({ text, at });
  }
  return words;
}

/** "vdi", "create". */
const depthMax = 2;

function childOf(command: Command, name: string): Command | undefined {
  return command.commands.find((child) => child.name() === name);
}

function unknownCommand(first: string, second: string | undefined, program: Command): KelpieError {
  const meant =
    pathsOf(program, first)[0] ?? (second === undefined ? undefined : pathsOf(program, second)[0]);
  const remedy = meant === undefined ? "kelpie --help lists them" : `did you mean ${meant}?`;
  return new KelpieError("invalid", `unknown command "${first}"`, { remedy });
}

/** Where there is a command of this name, in the order of the help: vdi before store. */
function pathsOf(program: Command, name: string): string[] {
  return program.commands
    .filter((group) => childOf(group, name) !== undefined)
    .map((group) => `${program.name()} ${group.name()} ${name}`);
}
