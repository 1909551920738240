import { KelpieError, messageOf } from "../../base/errors.ts";
import type { Files } from "../../host/files.ts";
import type { Host } from "../../host/host.ts";
import type { Log } from "../../host/log.ts";
import type { Timers } from "../../host/timers.ts";
import type { S3Backend } from "../backend/s3.ts";
import type { TieredBackend } from "../backend/tiered.ts";
import { logPrefix, logsPrefix, segmentKey, segmentOfKey, tailsPrefix } from "../keys.ts";
import type { LogWriter } from "../log/log-writer.ts";
import type { LogStart, RecoveredLog } from "../recover-log.ts";
import { listAll } from "../recovery.ts";
import type { Segment } from "../segment.ts";
import type { StoreState } from "../state.ts";
import { LogUpload } from "./log-upload.ts";
import type { Ownership } from "./ownership.ts";
import { restoreTails } from "./restore-tails.ts";

export interface UploadsSettings {
  /** Writers wait while more than this waits for its upload. */
  pendingBytesMax?: number;
}

/** What the way of one log needs of the whole. */
export interface UploadParts {
  backend: S3Backend;
  timers: Timers;
  log: Log;
  readonly isClosing: boolean;
  /** Bytes of a segment's file here. */
  read(key: string, range: { from: number; to: number }): Promise<Uint8Array>;
  /** Runs few of them at a time, in the order of asking. */
  limit<T>(action: () => Promise<T>): Promise<T>;
  room(): Promise<void> | undefined;
  closed(upload: LogUpload): void;
  /** So much more, or less, waits for its upload. */
  pending(bytes: number): void;
  /** The object store has a segment that was written here. */
  uploaded(key: string, bytes: number): void;
}

/** Whole segments on their way at one time. Each is in memory. */
const uploadsMax = 3;
const defaultPendingBytes = 2 ** 30;
/** How much of what nobody flushed is lost with this machine, in time. */
const trickleMs = 5_000;

/** What is written here goes to the object store: log by log in order, several at once. */
export class Uploads {
  readonly #backend: TieredBackend;
  readonly #ownership: Ownership;
  readonly #host: Host;
  readonly #pendingBytesMax: number;
  readonly #parts: UploadParts;
  /** Nothing more will come to them. */
  readonly #closed = new Set<LogUpload>();
  readonly #queue: (() => void)[] = [];
  #sending = 0;
  #roomWaiters: (() => void)[] = [];
  /** Found here by recovery, and not there. */
  readonly #unsent = new Set<string>();
  #trickleMs = 0;
  pendingBytes = 0;
  isClosing = false;

  constructor(
    settings: UploadsSettings,
    components: { backend: TieredBackend; host: Host; ownership: Ownership },
  ) {
    this.#pendingBytesMax = settings.pendingBytesMax ?? defaultPendingBytes;
    this.#backend = components.backend;
    this.#ownership = components.ownership;
    this.#host = components.host;
    this.#parts = this.#makeParts();
  }

  /** A log's way. What other logs still have to send goes before it, if they are closed. */
  begin(log: number): LogUpload {
    return new LogUpload({ log, after: this.settled() }, this.#parts);
  }

  #end(upload: LogUpload): void {
    if (upload.isSettled) return;
    this.#closed.add(upload);
    upload.settled().then(
      () => this.#closed.delete(upload),
      () => {}, // whoever waits for all of them is told
    );
  }

  /** Completes when all of the logs that are closed is in the object store. */
  async settled(): Promise<void> {
    await Promise.all([...this.#closed].map((upload) => upload.settled()));
  }

  #room(): Promise<void> | undefined {
    if (this.isClosing || this.pendingBytes <= this.#pendingBytesMax) return undefined;
    return new Promise((resolve) => this.#roomWaiters.push(resolve));
  }

  /** Sends, from time to time, what is written and nobody flushed: less is lost with this machine. */
  trickle(logs: Iterable<{ writer: LogWriter | undefined }>): void {
    const nowMs = this.#host.clock.monotonicMs();
    if (nowMs < this.#trickleMs) return;
    this.#trickleMs = nowMs + trickleMs;
    for (const { writer } of logs) {
      writer?.settle()?.catch((error: unknown) => {
        this.#host.log.warn("a log was not sent", { log: writer.log, error: messageOf(error) });
      });
    }
  }

  /** Before a log is recovered: what is in tails only becomes files again. */
  restore(start: LogStart): Promise<void> {
    return restoreTails(start, { backend: this.#backend, files: this.#host.files });
  }

  /** After it: what is here only is sent, before anything that is written from now on. */
  async recovered(start: LogStart, recovered: RecoveredLog): Promise<void> {
    const prefix = logPrefix(start.log);
    const from = segmentKey(start.log, start.segment).slice(0, -1);
    const there = new Set(await listAll(this.#backend.remote, prefix, from));
    const upload = this.begin(start.log);
    let before: { segment: number; units: number } | undefined;
    for (const { number, endUnits, fileBytes } of recovered.pieces) {
      const key = segmentKey(start.log, number);
      if (recovered.local.has(number) && !there.has(key)) {
        this.#unsent.add(key);
        upload.begun(number, before);
        upload.ended(number, { endUnits, bytes: fileBytes });
      }
      before = { segment: number, units: endUnits };
    }
    upload.close();
  }

  /** Segments in the directory that the object store has too are a cache; others mean nothing. */
  async settleFiles(state: StoreState): Promise<void> {
    for (const key of await listAll(this.#backend.local, logsPrefix)) {
      const segment = segmentOf(key, state);
      if (segment === undefined || segment.generation > 0) await this.#backend.local.delete(key);
      else if (!this.#unsent.has(key)) this.#backend.uploaded(key, segment.bytes);
    }
    this.#unsent.clear();
  }

  /** Removes tails of segments that are there as a whole, or are not known. */
  async sweep(state: StoreState): Promise<void> {
    const { remote } = this.#backend;
    const needless: string[] = [];
    let last: { key: string; isNeedless: boolean } | undefined;
    for (const key of await listAll(remote, tailsPrefix)) {
      const whole = logsPrefix + key.slice(tailsPrefix.length).replace(/\.[0-9a-f]+$/, "");
      if (last?.key !== whole) {
        const isKnown = segmentOf(whole, state) !== undefined;
        const isNeedless = !isKnown || (await remote.list(whole)).length > 0;
        last = { key: whole, isNeedless };
      }
      if (last.isNeedless) needless.push(key);
    }
    await remote.deleteAll(needless);
  }

  /** Before anything is removed, or a checkpoint says what there is. */
  mustBeOwner(): Promise<void> {
    return this.#ownership.check();
  }

  /** Everything is in the object store, and a checkpoint says so: anybody may have it. */
  release(): Promise<void> {
    return this.#ownership.release();
  }

  /** What could not be sent stays here, and goes when the store is opened the next time. */
  hasten(): void {
    this.isClosing = true;
    this.#backend.hasten();
    this.#pending(0);
  }

  #makeParts(): UploadParts {
    const { timers, log } = this.#host;
    const uploads = this;
    return {
      backend: this.#backend.remote,
      timers,
      log,
      get isClosing() {
        return uploads.isClosing;
      },
      read: (key, range) => readFile(this.#backend.localPath(key), range, this.#host.files),
      limit: (action) => this.#limit(action),
      room: () => this.#room(),
      closed: (upload) => this.#end(upload),
      pending: (bytes) => this.#pending(bytes),
      uploaded: (key, bytes) => this.#backend.uploaded(key, bytes),
    };
  }

  async #limit<T>(action: () => Promise<T>): Promise<T> {
    if (this.#sending >= uploadsMax) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    } else {
      this.#sending++;
    }
    try {
      return await action();
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#sending--;
      else next();
    }
  }

  #pending(bytes: number): void {
    this.pendingBytes += bytes;
    if (!this.isClosing && this.pendingBytes > this.#pendingBytesMax) return;
    const waiters = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const resolve of waiters) resolve();
  }
}

function segmentOf(key: string, state: StoreState): Segment | undefined {
  const place = segmentOfKey(key);
  return place === undefined ? undefined : state.segments.at(place.log, place.number);
}

async function readFile(
  path: string,
  { from, to }: { from: number; to: number },
  files: Files,
): Promise<Uint8Array> {
  const handle = await files.open(path, { access: "read" });
  try {
    const bytes = Buffer.allocUnsafe(to - from);
    const read = await handle.read(bytes, from);
    if (read === bytes.length) return bytes;
    throw new KelpieError("io", `${path} is cut short`);
  } finally {
    await handle.close();
  }
}
