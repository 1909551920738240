import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ServerProcess } from "../support/server-process.ts";
import { bootGuest } from "./boot-guest.ts";
import { SerialLine } from "./serial-line.ts";

/** Where examples/guest/build puts the Linux guest. */
const guestDirectory =
  process.env.KELPIE_GUEST ?? join(import.meta.dirname, "../../examples/guest/out");

/** For a test's `skip`: false when there is a Linux guest. KELPIE_REQUIRE_TOOLS=1 makes it an error. */
export function requireGuest(): string | false {
  const files = ["vmlinuz", "initrd"].map((name) => join(guestDirectory, name));
  if (files.every((file) => existsSync(file))) return false;
  const reason = "there is no Linux guest; examples/guest/build makes it from Debian's packages";
  if (process.env.KELPIE_REQUIRE_TOOLS === "1") throw new Error(reason);
  return reason;
}

/** Whether that guest can be had with QEMU's guest agent in it. */
export function requireAgent(): string | false {
  if (existsSync(join(guestDirectory, "initrd-agent"))) return false;
  const reason = "there is no Linux guest with an agent; examples/guest/build says what it lacks";
  if (process.env.KELPIE_REQUIRE_TOOLS === "1") throw new Error(reason);
  return reason;
}

/** KVM is not the same everywhere; TCG is. */
const everywhere = ["-accel", "tcg", "-nic", "none", "-vga", "none"];

/** QEMU's arguments for the Linux guest; "initrd-agent" is the one with an agent in it. */
export function linuxArguments(initrd: "initrd" | "initrd-agent" = "initrd"): string[] {
  return [
    ...everywhere,
    ...["-kernel", join(guestDirectory, "vmlinuz"), "-initrd", join(guestDirectory, initrd)],
    ...["-append", "console=ttyS0 quiet"],
  ];
}

/** Ends every line that is typed: the guest says how the command ended. */
const typedEnd = '; echo "[$?]"\n';

/** A VM that `kelpie vm run` has started, with its serial line. Its QEMU is ended with it. */
export class TestVm implements AsyncDisposable {
  readonly name: string;
  readonly line: SerialLine;
  readonly #server: ServerProcess;

  static async run(
    server: ServerProcess,
    name: string,
    options: { disks?: readonly string[]; memory?: string; more: readonly string[] },
  ): Promise<TestVm> {
    const { disks, memory = "256M", more } = options;
    const chosen = disks === undefined ? [] : ["--disk", disks.join(",")];
    await server.ok("vm", "run", name, "--memory", memory, ...chosen, "--", ...more);
    return await TestVm.of(server, name);
  }

  /** One that runs already. */
  static async of(server: ServerProcess, name: string): Promise<TestVm> {
    const line = await SerialLine.connect(`${server.store}/vm/${name}/serial.sock`);
    return new TestVm(server, name, line);
  }

  private constructor(server: ServerProcess, name: string, line: SerialLine) {
    this.#server = server;
    this.name = name;
    this.line = line;
  }

  /** `kelpie vm COMMAND NAME …`; what it printed. */
  async vm(command: string, ...more: string[]): Promise<string> {
    return await this.#server.ok("vm", command, this.name, ...more);
  }

  /** A command line in the Linux guest; what it printed. It must succeed. */
  async shell(command: string): Promise<string> {
    const { status, output } = await this.tryShell(command);
    assert.equal(status, 0, `${command}: exit ${status}\n${output}`);
    return output;
  }

  async tryShell(command: string): Promise<{ status: number; output: string }> {
    this.line.send(`${command}${typedEnd}`);
    const said = await this.line.expect(/\[(\d+)\]\r?\n/);
    const text = plain(said);
    const status = Number(/\[(\d+)\]\n$/.exec(text)?.[1]);
    // What was typed stands before it, and before that what a guest says that was just loaded.
    const typed = text.lastIndexOf(typedEnd);
    const answer = typed < 0 ? text.replace(/^.*\n/, "") : text.slice(typed + typedEnd.length);
    const output = answer.replace(/\[\d+\]\n$/, "");
    return { status, output };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.line[Symbol.asyncDispose]();
    await this.#server.cli("vm", "stop", this.name, "--force");
  }
}

/** Disks that the guest of boot-guest.s boots from and keeps letters on. */
export async function makeBootDisks(server: ServerProcess, ...names: string[]): Promise<void> {
  for (const name of names) await server.ok("vdi", "create", name, "1M");
  const disk = await server.connect(names[0] ?? "");
  await disk.write([bootGuest], 0);
  await disk.close();
}

export const bootArguments = everywhere;

/** The small guest, booted. */
export async function runBootGuest(
  server: ServerProcess,
  name: string,
  disks: readonly string[],
): Promise<TestVm> {
  const vm = await TestVm.run(server, name, { disks, memory: "64M", more: bootArguments });
  await untilReady(vm);
  return vm;
}

/** It may have said that it is ready before anybody listened. */
export async function untilReady(vm: TestVm): Promise<void> {
  for (;;) {
    vm.line.send("?");
    if ((await vm.line.expectSoon(/c=[0-9a-f]{8} .*\n/, 500)) !== undefined) break;
  }
  // It may have been asked more than once.
  while ((await vm.line.expectSoon(/.*\n/, 600)) !== undefined);
}

/** What a terminal would show: without carriage returns and cursor commands. */
function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out.
  return text.replace(/\x1b\[[0-9;?]*[a-zA-Z]|\r/g, "");
}
