import { Argument, type Command } from "commander";
import type { Cli } from "./command.ts";
import { type CommandNode, commandTree, flatten } from "./command-tree.ts";

const shells = ["bash", "zsh", "fish"] as const;
type Shell = (typeof shells)[number];

export function addCompletion(program: Command, cli: Cli): void {
  program
    .command("completion")
    .summary("print what makes a shell complete kelpie's commands")
    .description(
      `Prints a script that makes a shell complete kelpie's commands and options. Sourced at the start of
a shell, or put where the shell looks for such scripts.`,
    )
    .addArgument(new Argument("<shell>", "the shell").choices(shells))
    .addHelpText(
      "after",
      `
Examples:
  source <(kelpie completion bash)             in ~/.bashrc
  source <(kelpie completion zsh)              in ~/.zshrc, after compinit
  kelpie completion fish | source              in ~/.config/fish/config.fish`,
    )
    .action((shell: Shell) =>
      cli.run(async () => {
        await cli.context.stdout.write(completionScript(shell, commandTree(program)));
        return 0;
      }),
    );
}

/** Completes commands by where they are in the tree, and their options; else files. */
export function completionScript(shell: Shell, tree: CommandNode): string {
  if (shell === "bash") return bashScript(tree);
  if (shell === "zsh") return zshScript(tree);
  return fishScript(tree);
}

/** "vdi create" of "kelpie vdi create"; "" of the program. */
function place({ path }: CommandNode): string {
  return path.split(" ").slice(1).join(" ");
}

function flagsOf({ options }: CommandNode, tree: CommandNode): string[] {
  const all = [...options, ...tree.options].flatMap(({ short, long }) => [short, long]);
  return [...new Set([...all, "--help"])].filter((flag) => flag !== undefined);
}

/** Words that the command line has before the cursor, without options, say which command it is. */
function bashScript(tree: CommandNode): string {
  const cases = flatten(tree).map((node) => {
    const names = node.children.map(({ name }) => name);
    const words = [...names, ...flagsOf(node, tree)].join(" ");
    return `    "${place(node)}") words="${words}" commands="${names.join(" ")}" ;;`;
  });
  return `# bash completion for kelpie
_kelpie() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" place="" word skip="" words="" commands=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [[ -n $skip ]]; then skip=""; continue; fi
    if [[ $word == --store ]]; then skip=1; continue; fi
    if [[ $word == -* ]]; then continue; fi
    _kelpie_words "$place"
    [[ " $commands " == *" $word "* ]] || break
    place="\${place:+$place }$word"
  done
  _kelpie_words "$place"
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ \${#COMPREPLY[@]} == 0 && $cur != -* ]]; then compopt -o default; fi
}
_kelpie_words() {
  case "$1" in
${cases.join("\n")}
    *) words="" commands="" ;;
  esac
}
complete -F _kelpie kelpie
`;
}

function zshScript(tree: CommandNode): string {
  const cases = flatten(tree).map((node) => {
    const words = node.children.map(({ name, summary }) => quoted(`${name}:${summary}`));
    const flags = flagsOf(node, tree).join(" ");
    return `    "${place(node)}") words=(${words.join(" ")}) flags=(${flags}) ;;`;
  });
  return `#compdef kelpie
_kelpie() {
  local place="" word skip="" at
  local -a words_before words flags
  words_before=("\${(@)words[2,CURRENT-1]}")
  for word in "\${words_before[@]}"; do
    if [[ -n $skip ]]; then skip=""; continue; fi
    if [[ $word == --store ]]; then skip=1; continue; fi
    if [[ $word == -* ]]; then continue; fi
    _kelpie_words "$place"
    (( \${words[(I)$word:*]} )) || break
    place="\${place:+$place }$word"
  done
  _kelpie_words "$place"
  if [[ $PREFIX == -* ]]; then compadd -- $flags
  elif (( \${#words} )); then _describe command words
  else _files
  fi
}
_kelpie_words() {
  case "$1" in
${cases.join("\n")}
    *) words=() flags=() ;;
  esac
}
compdef _kelpie kelpie
`;
}

function fishScript(tree: CommandNode): string {
  const lines = flatten(tree).flatMap((node) => {
    const at = `-n ${quoted(`_kelpie_at "${place(node)}"`)}`;
    const commands = node.children.map(
      ({ name, summary }) => `complete -c kelpie ${at} -f -a ${name} -d ${quoted(summary)}`,
    );
    const options = node.options.map(({ short, long, description }) => {
      const flags = `${short ? ` -s ${short.slice(1)}` : ""}${long ? ` -l ${long.slice(2)}` : ""}`;
      return `complete -c kelpie ${at}${flags} -d ${quoted(description)}`;
    });
    return [...commands, ...options];
  });
  const places = flatten(tree).map((node) => quoted(place(node)));
  return `# fish completion for kelpie
function _kelpie_at
  set -l place ""
  for word in (commandline -opc)[2..]
    string match -q -- '-*' $word; and continue
    set -l next (string trim "$place $word")
    contains -- $next ${places.join(" ")}; or break
    set place $next
  end
  test "$place" = "$argv[1]"
end
${lines.join("\n")}
`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
