import { isPending } from "../../src/base/completion.ts";
import { isKelpieError, messageOf } from "../../src/base/errors.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { blockBytes, sectorBytes } from "../../src/block/block-device.ts";
import { guardDevice } from "../../src/block/guard.ts";
import { connectNbd } from "../../src/nbd/client.ts";
import { SheepdogClient } from "../../src/sheepdog/client.ts";
import { RemoteVolumes } from "../../src/sheepdog/client-volumes.ts";
import type { SeededRandom } from "../random.ts";
import { bytesOf, offsetOf, runs, sectorsIn, sectorsWithin, valuesIn } from "./content.ts";
import { type ModelDisk, PendingChange } from "./disks.ts";
import { nbdAddress, sheepdogAddress } from "./machine.ts";
import { checkRead } from "./model.ts";
import type { World } from "./world.ts";

const ways = ["nbd", "export", "volume", "sheepdog"] as const;

interface Session {
  disk: ModelDisk;
  device: BlockDevice;
  close: () => Promise<void>;
}

/** Uses disks as guests do: opens one, makes requests, some at once, checks what it reads, closes it. */
export class Guest {
  readonly name: string;
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #way: (typeof ways)[number];
  /** Of a disk that is open by Sheepdog. */
  #tipsAtOpen = 0;

  constructor(name: string, world: World, random: SeededRandom) {
    this.name = name;
    this.#world = world;
    this.#random = random;
    const count = world.plan.sheepdog ? ways.length : ways.length - 1;
    this.#way = ways[random.below(count)] as (typeof ways)[number];
  }

  /** Until it has made so many requests. */
  async run(requests: number): Promise<void> {
    const { scheduler } = this.#world;
    for (let made = 0; made < requests; ) {
      const session = await this.#open();
      if (session === undefined) {
        await scheduler.sleep(5);
        made++; // so that it ends if there is no disk any more
        continue;
      }
      const count = Math.min(requests - made, 3 + this.#random.below(20));
      made += await this.#use(session, count);
      await session.close();
    }
  }

  async #open(): Promise<Session | undefined> {
    const { model, machine } = this.#world;
    const disks = [...model.disks.values()];
    const disk = disks[this.#random.below(disks.length)];
    // Who opens it now may be told a size that is not right any more.
    if (disk === undefined || disk.isResizing || disk.hasSheepdog) return undefined;
    if (this.#way === "sheepdog") return await this.#openBySheepdog(disk);
    const { vdis, exports } = machine.local;
    const { name } = disk;
    try {
      disk.sessions++;
      if (this.#way === "volume") {
        const device = guardDevice(vdis.volume(name));
        return { disk, device, close: async () => void disk.sessions-- };
      }
      if (this.#way === "export") {
        const opened = await exports.open(name, { protocol: "library", peer: this.name });
        const close = async (): Promise<void> => {
          disk.sessions--;
          await opened.close();
        };
        return { disk, device: guardDevice(opened.device), close };
      }
      const { net, host } = machine;
      const components = { net, timers: host.timers };
      const client = await connectNbd({ address: nbdAddress, exportName: name }, components);
      const close = async (): Promise<void> => {
        await client.close().catch((error) => this.#mayFail(error, "closing"));
        disk.sessions--;
      };
      return { disk, device: client, close };
    } catch (error) {
      disk.sessions--;
      if (!isKelpieError(error, "not-found")) this.#mayFail(error, `opening ${name}`);
      return undefined;
    }
  }

  /** What a client of Sheepdog knows of a disk's objects it has read once: nobody else may write. */
  async #openBySheepdog(disk: ModelDisk): Promise<Session | undefined> {
    if (disk.sessions > 0 || disk.isBusy || disk.next !== undefined) return undefined;
    const { net, host } = this.#world.machine;
    this.#tipsAtOpen = disk.tips.length;
    disk.sessions++;
    disk.hasSheepdog = true;
    const left = (): void => {
      disk.sessions--;
      disk.hasSheepdog = false;
    };
    let client: SheepdogClient | undefined;
    try {
      const components = { net, timers: host.timers };
      client = await SheepdogClient.connect({ nodes: [sheepdogAddress] }, components);
      const opened = await new RemoteVolumes({ client }).open(disk.name);
      const close = async (): Promise<void> => {
        await opened.close().catch((error) => this.#mayFail(error, "closing"));
        await client?.close();
        left();
      };
      this.#world.trace.note(`${this.name} has ${disk.name} by Sheepdog, vid ${opened.volume.vid}`);
      return { disk, device: guardDevice(opened.volume), close };
    } catch (error) {
      await client?.close();
      left();
      if (!isKelpieError(error, "not-found")) this.#mayFail(error, `opening ${disk.name}`);
      return undefined;
    }
  }

  /** Says how many requests it made: fewer if the disk went away. */
  async #use(session: Session, count: number): Promise<number> {
    const { scheduler, plan } = this.#world;
    const under = new Set<Promise<void>>();
    let isGone = false;
    let made = 0;
    for (; made < count && !isGone; made++) {
      const request = this.#request(session)
        .catch(() => false) // the world knows of it
        .then((isAlive) => {
          under.delete(request);
          if (!isAlive) isGone = true;
        });
      under.add(request);
      while (under.size >= plan.depth) await Promise.race(under);
      if (this.#random.below(3) === 0) await scheduler.sleep(this.#random.below(40) / 4);
    }
    await Promise.all(under);
    return made;
  }

  /** False if the disk is not there any more. */
  #request(session: Session): Promise<boolean> {
    const choice = this.#random.below(20);
    if (choice < 9) return this.#write(session);
    if (choice < 12) return this.#zero(session);
    if (choice < 15) return this.#mayBeSynced() ? this.#flush(session) : this.#write(session);
    return this.#read(session);
  }

  /** The less is synced, the more there is to lose. */
  #mayBeSynced(): boolean {
    const { syncOneIn } = this.#world.plan;
    return syncOneIn === 1 || this.#random.below(syncOneIn) === 0;
  }

  /** Some neighbouring sectors that the disk has, mostly whole blocks. */
  #range(sectors: number): { from: number; to: number } {
    const { to: end, from: start } = runs.find(({ to }) => to > this.#random.below(sectors)) ?? {
      from: 0,
      to: sectors,
    };
    const last = Math.min(end, sectors);
    const isPart = this.#random.below(4) === 0;
    const unit = isPart ? 1 : blockBytes / sectorBytes;
    const places = Math.floor((last - start) / unit);
    if (places === 0) return { from: start, to: last };
    const first = this.#random.below(places);
    const count = 1 + this.#random.below(Math.min(isPart ? 12 : 4, places - first));
    return { from: start + first * unit, to: start + (first + count) * unit };
  }

  #write({ disk, device }: Session): Promise<boolean> {
    const { model } = this.#world;
    const { from, to } = this.#range(sectorsWithin(device.sizeBytes));
    const request = model.nextRequest();
    const bytes = bytesOf(request, from, to);
    const split = this.#random.below(bytes.length);
    const chunks = split % 3 === 0 ? [bytes] : [bytes.subarray(0, split), bytes.subarray(split)];
    const fua = this.#random.below(6) === 0 && this.#mayBeSynced();
    // Of objects of Sheepdog's a write is one for each.
    const change = { request, from, to, isWhole: this.#way !== "sheepdog" };
    const what = `write ${request} ${from}..${to}${fua ? " fua" : ""}`;
    return this.#change(disk, { change, what, fua }, () =>
      device.write(chunks, offsetOf(from), { fua }),
    );
  }

  #zero({ disk, device }: Session): Promise<boolean> {
    const { model } = this.#world;
    const { sizeBytes } = device;
    const range = this.#range(sectorsWithin(sizeBytes));
    let offset = offsetOf(range.from);
    let end = offsetOf(range.to - 1) + sectorBytes;
    // Of parts of objects a client of Sheepdog trims nothing.
    const isTrim = this.#random.below(2) === 0 && this.#way !== "sheepdog";
    if (this.#random.below(4) === 0) end = Math.min(sizeBytes, end + this.#random.below(2 ** 24));
    end = Math.floor(end / sectorBytes) * sectorBytes;
    if (isTrim && this.#random.below(4) !== 0) {
      offset = Math.floor(offset / blockBytes) * blockBytes;
    }
    // Whether that is the disk's end nobody knows who is not told of its growth.
    const knowsEnd = this.#way !== "nbd" && !disk.isBusy;
    if (isTrim && !knowsEnd) end = Math.max(offset, Math.floor(end / blockBytes) * blockBytes);
    const length = end - offset;
    const { from, to } = isTrim ? trimmed(offset, end, sizeBytes) : sectorsIn(offset, length);
    const fua = this.#random.below(6) === 0 && this.#mayBeSynced();
    const keepAllocated = this.#random.below(2) === 0;
    model.nextRequest();
    const change = { request: 0, from, to, isWhole: false };
    const what = `${isTrim ? "trim" : "zero"} ${from}..${to}${fua ? " fua" : ""}`;
    return this.#change(disk, { change, what, fua }, () =>
      isTrim
        ? device.trim(offset, length, { fua })
        : device.zero(offset, length, { fua, keepAllocated }),
    );
  }

  async #change(
    disk: ModelDisk,
    made: {
      change: { request: number; from: number; to: number; isWhole: boolean };
      what: string;
      fua: boolean;
    },
    action: () => void | Promise<void>,
  ): Promise<boolean> {
    const { model, trace } = this.#world;
    const { change, what, fua } = made;
    const pending = new PendingChange(disk, { ...change, asked: model.now() });
    trace.note(`${this.name} ${disk.name}: ${what}`);
    return this.#answered(disk, what, action, () => pending.answer(model.now(), fua));
  }

  #flush({ disk, device }: Session): Promise<boolean> {
    const { model, trace } = this.#world;
    model.nextRequest();
    const asked = model.now();
    const { tip } = disk;
    trace.note(`${this.name} ${disk.name}: flush`);
    return this.#answered(
      disk,
      "flush",
      () => device.flush(),
      () => {
        tip.durableBefore = Math.max(tip.durableBefore, asked);
      },
    );
  }

  async #read({ disk, device }: Session): Promise<boolean> {
    const { model, trace } = this.#world;
    model.nextRequest();
    const { from, to } = this.#range(sectorsWithin(device.sizeBytes));
    const asked = model.now();
    const target = Buffer.alloc((to - from) * sectorBytes, 0xee);
    const now = disk.tips.lastIndexOf(disk.tip);
    // A client of Sheepdog that came while the disk was moved may know the map of the tip before.
    const firstTip = this.#way === "sheepdog" ? Math.min(now, this.#tipsAtOpen - 1) : now;
    trace.note(`${this.name} ${disk.name}: read ${from}..${to}`);
    const read = (): void | Promise<void> => device.read(target, offsetOf(from));
    return this.#answered(disk, "read", read, () => {
      const found = { values: valuesIn(target, from), from, asked, answered: model.now() };
      const failures: unknown[] = [];
      const tips = disk.tips.slice(firstTip);
      for (const tip of tips) {
        try {
          checkRead(tip, found);
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length === tips.length) throw failures[0];
    });
  }

  /** What comes after a crash nobody hears. */
  async #answered(
    disk: ModelDisk,
    what: string,
    action: () => void | Promise<void>,
    accept: () => void,
  ): Promise<boolean> {
    const { trace } = this.#world;
    try {
      const done = action();
      if (isPending(done)) await done;
    } catch (error) {
      trace.note(`${this.name} ${disk.name}: ${what} failed`);
      if (this.#lostIt(disk, error)) return false;
      return this.#mayFail(error, `${what} of ${disk.name}`);
    }
    if (this.#world.machine.crashed !== undefined) return false;
    trace.note(`${this.name} ${disk.name}: ${what} done`);
    this.#world.must(accept, `${this.name} ${disk.name}: ${what}`);
    return true;
  }

  /** A rollback or deletion had begun before it was there: what it knows of the disk is of no use now. */
  #lostIt(disk: ModelDisk, error: unknown): boolean {
    const { model, machine } = this.#world;
    const isMoved = disk.tips.length > this.#tipsAtOpen;
    const isDeleted =
      model.disks.get(disk.name) !== disk || !machine.local.vdis.registry.working.has(disk.name);
    return this.#way === "sheepdog" && (isMoved || isDeleted) && isKelpieError(error, "io");
  }

  /** Whether the disk is still there; throws if nothing has happened that explains the failure. */
  #mayFail(error: unknown, what: string): boolean {
    const { machine } = this.#world;
    if (machine.crashed !== undefined) return false;
    if (isKelpieError(error, "closed")) return false;
    const isCut = isKelpieError(error) && machine.cuts > 0;
    if (!isCut && !this.#world.explains(error))
      this.#world.fail(`${this.name}: ${what}: ${messageOf(error)}`, error);
    return machine.cuts === 0;
  }
}

/** A trim leaves what is not a whole block; the last one of a disk may be a part. */
function trimmed(offset: number, end: number, sizeBytes: number): { from: number; to: number } {
  const start = Math.ceil(offset / blockBytes) * blockBytes;
  const stop = end === sizeBytes ? end : Math.floor(end / blockBytes) * blockBytes;
  return stop > start ? sectorsIn(start, stop - start) : { from: 0, to: 0 };
}
