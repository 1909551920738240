import { Command, CommanderError, Option } from "commander";
import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import { addCluster } from "./cluster.ts";
import { type Cli, createCli, type Outcome } from "./command.ts";
import { commandPath, prepare } from "./command-line.ts";
import { addCompletion } from "./completions.ts";
import { BrokenPipe, type CliContext } from "./context.ts";
import { exitCode, exitCodeOf } from "./exit-codes.ts";
import { addMan } from "./man-page.ts";
import { addNode } from "./node.ts";
import { addQuota } from "./quota.ts";
import { addServe } from "./serve.ts";
import { addStore } from "./store.ts";
import { addTls } from "./tls.ts";
import { addTop } from "./top.ts";
import { addGetAttribute, addSetAttribute } from "./vdi-attributes.ts";
import { addBackup, addRestore } from "./vdi-backup.ts";
import { addCheck, addFlatten } from "./vdi-check.ts";
import { addCopy } from "./vdi-copy.ts";
import { addCreate, addResize, addSet } from "./vdi-create.ts";
import { addDiff, addMap } from "./vdi-diff.ts";
import { addExport } from "./vdi-export.ts";
import { addImport } from "./vdi-import.ts";
import { addInfo } from "./vdi-info.ts";
import { addList } from "./vdi-list.ts";
import { addLock } from "./vdi-lock.ts";
import { addQos } from "./vdi-qos.ts";
import { addRead, addWrite } from "./vdi-read.ts";
import {
  addClone,
  addDelete,
  addPurge,
  addRollback,
  addSnapshot,
  addUndelete,
} from "./vdi-snapshot.ts";
import { addTree } from "./vdi-tree.ts";
import { addVm } from "./vm.ts";

/** Runs one command line, without the program's name in front; returns the exit code. */
export async function run(argv: readonly string[], context: CliContext): Promise<number> {
  const outcome: Outcome = { exitCode: exitCode.success };
  const said: string[] = [];
  const program = createProgram(createCli(context, outcome), context, said);
  try {
    try {
      await program.parseAsync(prepare(argv, program), { from: "user" });
    } finally {
      for (const text of said) await context.stdout.write(text);
    }
    return outcome.exitCode;
  } catch (error) {
    return await report(error, context, commandPath(argv, program));
  }
}

/** All commands; what they say of themselves goes to `said`. */
export function createProgram(cli: Cli, context: CliContext, said: string[]): Command {
  const program = new Command("kelpie")
    .description("Disks for virtual machines: snapshots, clones and rollback at once, over NBD.")
    .version(`kelpie ${context.version}`, "-V, --version", "print the version")
    .option("--store <dir|url>", "the store; $KELPIE_STORE, else ./kelpie-data")
    .option("--local <dir>", "of s3://bucket/prefix: what is kept on this machine; $KELPIE_LOCAL")
    .option("--s3-endpoint <url>", "other than AWS; $AWS_ENDPOINT_URL")
    .option("--s3-region <name>", "$AWS_REGION, or as in ~/.aws/config")
    .addOption(
      new Option(
        "--s3-path-style <on|off>",
        "the bucket is in the path; on with an endpoint",
      ).choices(["on", "off"]),
    )
    .option("--json", "print results as JSON")
    .helpCommand(false)
    .showSuggestionAfterError(true)
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({
      writeOut: (text) => said.push(text),
      // Reported like every other error.
      writeErr: () => {},
      outputError: () => {},
      getOutHelpWidth: () => Math.min(context.stdout.columns, helpColumns),
      getOutHasColors: () => false,
    })
    .addHelpText("after", examples)
    .hook("preAction", (_program, command) => refuseEmpty(command))
    // As dog: no arguments, no mistake.
    .action(() => {
      program.outputHelp();
    });
  addServe(program, cli);
  addVdi(program, cli);
  addVm(program, cli);
  addStore(program, cli);
  addNode(program, cli);
  addCluster(program, cli);
  addQuota(program, cli);
  addTls(program, cli);
  addTop(program, cli);
  addCompletion(program, cli);
  addMan(program, cli);
  return program;
}

const helpColumns = 100;

/** An unset variable in a script: nothing can be called "", whatever the command. */
function refuseEmpty(command: Command): void {
  command.registeredArguments.forEach((argument, index) => {
    if (argument.name() === "key") return; // The empty prefix: everything.
    if ([command.processedArgs[index]].flat().includes("")) {
      throw new KelpieError("invalid", `<${argument.name()}> is empty`);
    }
  });
}

const examples = `
A first disk, twice frozen and put back:
  kelpie serve &
  kelpie vdi create disk1 10G
  kelpie vdi snapshot disk1 -s fresh
  kelpie vdi rollback disk1 -s fresh
  kelpie vdi tree disk1

Exit codes: 0 done, 1 failed, 2 the system or the data failed, 3 exists already, 4 full,
5 not there, 64 the command line is wrong, 130 interrupted.`;

function addVdi(program: Command, cli: Cli): void {
  const vdi = program
    .command("vdi")
    .summary("work with disks and snapshots")
    .description(
      "Works with disks and their snapshots. -s takes a tag, or the number of a snapshot.",
    );
  const commands = [
    addCreate,
    addList,
    addTree,
    addInfo,
    addSnapshot,
    addClone,
    addRollback,
    addDelete,
    addUndelete,
    addPurge,
    addResize,
    addQos,
    addSet,
    addFlatten,
    addDiff,
    addMap,
    addRead,
    addWrite,
    addCheck,
    addImport,
    addExport,
    addCopy,
    addBackup,
    addRestore,
    addSetAttribute,
    addGetAttribute,
    addLock,
  ];
  for (const add of commands) add(vdi, cli);
}

async function report(error: unknown, context: CliContext, path: string): Promise<number> {
  if (error instanceof BrokenPipe) return exitCode.failure;
  if (error instanceof CommanderError) return await reportUsage(error, context, path);
  if (context.signal.aborted) {
    await say(context, "kelpie: interrupted\n");
    return exitCode.interrupted;
  }
  if (!isKelpieError(error)) {
    const trace = error instanceof Error ? error.stack : undefined;
    await say(context, `kelpie: internal error: ${trace ?? messageOf(error)}\n`);
    return exitCode.systemFailure;
  }
  const remedy = error.remedy === undefined ? "" : `${error.remedy}\n`;
  await say(context, `kelpie: ${error.message}\n${remedy}`);
  return exitCodeOf(error);
}

async function reportUsage(
  error: CommanderError,
  context: CliContext,
  path: string,
): Promise<number> {
  // --help and --version end the parse with 0.
  if (error.exitCode === 0) return exitCode.success;
  // "kelpie vdi": which of its commands?
  if (error.code === "commander.help") {
    await say(context, `kelpie: a command is missing\n${path} --help lists them\n`);
    return exitCode.usage;
  }
  const number = /^error: unknown option '(-\d.*)'/.exec(error.message)?.[1];
  const why =
    number === undefined ? error.message.replace(/^error: /, "") : `${number}: it is negative`;
  const resizing = number !== undefined && path === "kelpie vdi resize";
  const remedy = resizing ? "give the new size, and --shrink" : `${path} --help says more`;
  await say(context, `kelpie: ${why}\n${remedy}\n`);
  return exitCode.usage;
}

/** The exit code says it too: an error that cannot be told must not hide the one behind it. */
async function say(context: CliContext, text: string): Promise<void> {
  await context.stderr.write(text).catch(() => {});
}
