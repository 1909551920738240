import { isKelpieError, KelpieError, messageOf } from "../base/errors.ts";
import type { VmMachine } from "./vm-machine.ts";

/**
 * Runs `action` while the file systems of a guest are frozen: all that the guest has written is on its
 * disks, and nothing more comes. They are thawed whatever comes of it. A record says that they may be
 * frozen, so that who opens the store after a crash thaws them.
 */
export async function quiesced<T>(machine: VmMachine, action: () => Promise<T>): Promise<T> {
  const { state, isRunning } = await machine.monitor.status();
  if (!isRunning) {
    const message = `the guest of VM "${machine.name}" stands still (${state}), and its agent with it`;
    throw new KelpieError("busy", message, {
      remedy: `kelpie vm monitor ${machine.name}, and there "cont"; or snapshot without --quiesce.`,
    });
  }
  const agent = await machine.openAgent();
  try {
    // Who has no agent finds out before anything is written down.
    await agent.sync();
    await machine.change({ pending: { kind: "thaw", image: null, wasRunning: true } });
    const outcome = await attempt(async () => {
      await agent.freeze();
      return await action();
    });
    const thawed = await attempt(async () => {
      await agent.thaw();
      await machine.change({ pending: null });
    });
    if (!("error" in thawed)) return settled(outcome);
    throw stillFrozen(machine, { outcome, error: thawed.error });
  } finally {
    agent.close();
  }
}

type Outcome<T> = { value: T } | { error: KelpieError };

/** What went wrong in the world is an outcome; what we got wrong is thrown. */
async function attempt<T>(action: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await action() };
  } catch (error) {
    if (!isKelpieError(error)) throw error;
    return { error };
  }
}

function settled<T>(outcome: Outcome<T>): T {
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
}

function stillFrozen(
  { name }: VmMachine,
  { outcome, error }: { outcome: Outcome<unknown>; error: KelpieError },
): KelpieError {
  const done = "error" in outcome ? messageOf(outcome.error) : "the snapshot is taken";
  const message = `${done}; file systems of VM "${name}" may still be frozen: ${error.message}`;
  return new KelpieError(error.code, message, {
    cause: error,
    remedy: "Kelpie goes on trying. In the guest, `fsfreeze -u` thaws a file system.",
  });
}
