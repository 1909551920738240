import { isKelpieError, messageOf } from "../../src/base/errors.ts";
import type { SeededRandom } from "../random.ts";
import { chooseOperation, createOperation, type Operation } from "./operations.ts";
import { mayGiveUp } from "./plan.ts";
import type { World } from "./world.ts";

/** Does structural things to disks, one after the other, while guests use them. */
export class Actor {
  readonly name: string;
  readonly #world: World;
  readonly #random: SeededRandom;

  constructor(name: string, world: World, random: SeededRandom) {
    this.name = name;
    this.#world = world;
    this.#random = random;
  }

  async run(operations: number): Promise<void> {
    const { scheduler, machine, plan } = this.#world;
    for (let count = 0; count < operations; count++) {
      await scheduler.sleep(this.#random.below(400) / 8);
      const choice = this.#random.below(12);
      if (choice === 0) await this.#background("checkpoint", () => machine.vdis.store.checkpoint());
      else if (choice === 1) await this.#background("clean", () => machine.vdis.store.clean());
      else if (choice === 2) machine.cut();
      else if (choice === 3 && plan.roomBytes !== undefined) this.#changeRoom(plan.roomBytes);
      else {
        const operation = chooseOperation(this.#world, this.#random);
        if (operation !== undefined) await this.#operate(operation);
      }
    }
  }

  async createDisk(): Promise<void> {
    const operation = createOperation(this.#world);
    if (operation !== undefined) await this.#operate(operation);
  }

  async #background(kind: string, action: () => Promise<unknown>): Promise<void> {
    const { trace, machine, background } = this.#world;
    trace.note(`${this.name}: ${kind}`);
    background.push(kind);
    this.#perhapsCrash(5, 100);
    try {
      await action();
      if (machine.crashed !== undefined) return;
      trace.note(`${this.name}: ${kind} done`);
    } catch (error) {
      if (machine.crashed !== undefined) return;
      trace.note(`${this.name}: ${kind} failed`);
      if (!this.#world.explains(error)) this.#world.fail(`${kind}: ${messageOf(error)}`, error);
    }
    background.splice(background.indexOf(kind), 1);
  }

  async #operate(operation: Operation): Promise<void> {
    const { model, machine, trace, pending } = this.#world;
    const { vdis } = machine;
    const what = `${operation.kind} ${operation.what}`;
    const asked = model.now();
    operation.begin?.();
    const entry = { operation, asked };
    pending.add(entry);
    this.#perhapsCrash(12, 40);
    trace.note(`${this.name}: ${what}`);
    let failure: unknown;
    try {
      await operation.run(vdis);
    } catch (error) {
      failure = error;
    }
    if (machine.crashed !== undefined) return;
    pending.delete(entry);
    const answered = model.now();
    trace.note(`${this.name}: ${what} ${failure === undefined ? "done" : "failed"}`);
    this.#world.must(() => {
      const isDone = operation.isDone(vdis);
      if (failure !== undefined) this.#mayFail(failure, what);
      if (isDone !== (failure === undefined) && operation.mayDoNothing !== true) {
        throw new Error(isDone ? `it failed and is done: ${messageOf(failure)}` : "it is not done");
      }
      if (isDone) operation.done(vdis, { asked, answered });
      else operation.notDone?.();
    }, what);
    operation.release();
    if (failure !== undefined) return;
    const { operations } = this.#world;
    operations.set(operation.kind, (operations.get(operation.kind) ?? 0) + 1);
  }

  /** Somebody else takes some of the host's disk, or makes room. */
  #changeRoom(choices: readonly number[]): void {
    this.#world.machine.leaveRoom(choices[this.#random.below(choices.length)]);
  }

  #perhapsCrash(oneIn: number, callsMax: number): void {
    if (this.#random.below(oneIn) === 0)
      this.#world.machine.crashWithin(1 + this.#random.below(callsMax));
  }

  #mayFail(error: unknown, what: string): void {
    const { plan } = this.#world;
    if (isKelpieError(error, "busy")) return;
    // What was discarded may have been given up in the meantime.
    if (isKelpieError(error, "not-found") && mayGiveUp(plan)) return;
    if (this.#world.explains(error)) return;
    this.#world.fail(`${what}: ${messageOf(error)}`, error);
  }
}
