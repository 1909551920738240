import type { Command } from "commander";
import { isKelpieError, KelpieError } from "../base/errors.ts";
import type { Control } from "../control/calls.ts";
import { vmSockets } from "../control/vm-qemu.ts";
import type { Connection } from "../host/net.ts";
import type { Cli } from "./command.ts";
import type { CliContext } from "./context.ts";
import { createProgressLine } from "./progress.ts";

/** Leaves the console, as it leaves telnet. */
const leaveKey = 0x1d;
/** Input that nobody types comes to an end; then the guest is heard out until it is silent so long. */
const silenceMs = 2000;

export function addConsole(parent: Command, cli: Cli): void {
  parent
    .command("console")
    .summary("the serial line of a VM; Ctrl-] leaves")
    .description(
      `Shows the serial line of a VM that "vm run" has started, and types on it. Ctrl-] leaves. When the
input is not a terminal, leaves when all of it is typed and the guest has been silent for two seconds.`,
    )
    .argument("<name>", "the VM")
    .action((name: string, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }) => {
        const vm = (await control.call("vm.list", {})).find((one) => one.name === name);
        if (vm === undefined) throw new KelpieError("not-found", `there is no VM "${name}"`);
        const path = `${vm.directory}/${vmSockets.serial}`;
        const connection = await cli.context.host.net
          .connect({ kind: "unix", path })
          .catch((error: unknown) => {
            if (!isKelpieError(error)) throw error;
            throw new KelpieError(error.code, `the serial line of VM "${name}": ${error.message}`, {
              cause: error,
              remedy: "There is one when `kelpie vm run` has started the VM and it runs.",
            });
          });
        await talk(connection, cli.context);
        return 0;
      }),
    );
}

async function talk(connection: Connection, context: CliContext): Promise<void> {
  const { stdout, host, terminal, signal } = context;
  const over = Promise.withResolvers<void>();
  let silence: { cancel(): void } | undefined;
  let isLast = false;
  const wait = (): void => {
    silence?.cancel();
    if (isLast) silence = host.timers.after(silenceMs, over.resolve);
  };
  let printed: Promise<void> = Promise.resolve();
  connection.start({
    data: (chunk) => {
      const copy = chunk.slice();
      connection.release(chunk, chunk.length);
      printed = printed.then(() => stdout.write(copy));
      printed.catch(over.reject);
      wait();
    },
    drain: () => {},
    close: () => over.resolve(),
  });
  signal.addEventListener("abort", () => over.resolve(), { once: true });
  const typing = (async () => {
    for await (const keys of terminal?.keys() ?? context.stdin) {
      const end = terminal === undefined ? -1 : keys.indexOf(leaveKey);
      connection.write([end < 0 ? keys : keys.subarray(0, end)]);
      if (end >= 0) {
        over.resolve();
        return;
      }
    }
    isLast = true;
    wait();
  })();
  typing.catch(over.reject);
  try {
    await over.promise;
    await printed;
  } finally {
    silence?.cancel();
    terminal?.release();
    connection.destroy();
  }
}

export function addMonitor(parent: Command, cli: Cli): void {
  parent
    .command("monitor")
    .summary("QEMU's monitor, with savevm and loadvm that work")
    .description(
      `QEMU's own monitor, but that savevm, loadvm, delvm and "info snapshots" work on Kelpie disks. Ctrl-D
leaves. Commands may come on the standard input, too; the first that fails ends it then.`,
    )
    .argument("<name>", "the VM")
    .action((name: string, _options: object, command: Command) =>
      cli.onStore(command, async ({ control }) => {
        await mustAnswer(control, name);
        const { terminal } = cli.context;
        if (terminal === undefined) return await runLines(name, { control, context: cli.context });
        const complete = await completionsOf(name, control);
        for await (const line of terminal.lines({ prompt: "(qemu) ", complete })) {
          if (line.trim() === "") continue;
          if (/^(exit|q!?)$/.test(line.trim())) break;
          try {
            await runLine(name, line, { control, context: cli.context });
          } catch (error) {
            if (!isKelpieError(error)) throw error;
            const remedy = error.remedy === undefined ? "" : `${error.remedy}\n`;
            await cli.context.stderr.write(`${error.message}\n${remedy}`);
            if (error.code === "closed" || error.code === "not-found") {
              if (!(await isRunning(control, name))) return 1;
            }
          }
        }
        return 0;
      }),
    );
}

interface Surroundings {
  control: Control;
  context: CliContext;
}

async function runLine(name: string, line: string, to: Surroundings): Promise<void> {
  const progress = createProgressLine(to.context, line.trim());
  const { output } = await to.control
    .call("vm.command", { name, line }, { progress: progress.update })
    .finally(progress.done);
  await to.context.stdout.write(output);
}

async function runLines(name: string, to: Surroundings): Promise<number> {
  let rest = "";
  for await (const chunk of to.context.stdin) {
    rest += Buffer.from(chunk).toString();
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") await runLine(name, line, to);
  }
  if (rest.trim() !== "") await runLine(name, rest, to);
  return 0;
}

async function isRunning(control: Control, name: string): Promise<boolean> {
  const vm = (await control.call("vm.list", {})).find((one) => one.name === name);
  return vm !== undefined && vm.state !== "off";
}

async function mustAnswer(control: Control, name: string): Promise<void> {
  await control.call("vm.snapshots", { name });
  if (await isRunning(control, name)) return;
  throw new KelpieError("busy", `VM "${name}" is off`, { remedy: `kelpie vm run ${name}` });
}

/** Commands, what "info" can tell, and tags of snapshots. */
async function completionsOf(
  name: string,
  control: Control,
): Promise<(line: string) => Promise<string[]>> {
  const ask = async (line: string): Promise<string> => {
    return (await control.call("vm.command", { name, line })).output;
  };
  const [help, info] = [await ask("help"), await ask("help info")];
  const commands = namesIn(help);
  const infos = namesIn(info.replaceAll(/^info /gm, ""));
  return async (line) => {
    const [command = "", ...rest] = line.trimStart().split(/\s+/);
    if (rest.length === 0) return commands.filter((one) => one.startsWith(command));
    const begun = rest[0] ?? "";
    const before = `${command} `;
    if (rest.length > 1) return [];
    let words: string[] = [];
    if (command === "info") words = infos;
    if (command === "help") words = commands;
    if (command === "loadvm" || command === "delvm") {
      words = (await control.call("vm.snapshots", { name })).map(({ tag }) => tag);
    }
    return words.filter((word) => word.startsWith(begun)).map((word) => before + word);
  };
}

/** "commit|c device -- commit changes", one a line. */
function namesIn(help: string): string[] {
  const names = help.split("\n").flatMap((line) => /^[\w|?-]+/.exec(line)?.[0].split("|") ?? []);
  return [...new Set(names)].sort();
}
