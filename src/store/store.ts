import { assert } from "../base/assert.ts";
import type { Completion } from "../base/completion.ts";
import { KelpieError, messageOf } from "../base/errors.ts";
import { runHolding } from "../base/mutex.ts";
import type { FileLock, Files } from "../host/files.ts";
import type { Host } from "../host/host.ts";
import type { Timers } from "../host/timers.ts";
import type { Backend } from "./backend/backend.ts";
import { type MoveRequest, moveTips, type SnapshotRequest, snapshotTips } from "./branch.ts";
import { Catalog } from "./catalog.ts";
import { Checkpointer } from "./checkpointer.ts";
import { Cleaner } from "./cleaner.ts";
import {
  allocationExtents,
  type BlockExtent,
  type BlockRange,
  changedExtents,
  depthExtents,
} from "./extents.ts";
import type { CatalogRecord, PointChange } from "./formats/catalog-record.ts";
import type { Identity } from "./formats/identity.ts";
import { logPrefix, segmentKey, spareDirectory } from "./keys.ts";
import { addTotals, type LogTotals, noTotals } from "./log/log-totals.ts";
import { LogWriter } from "./log/log-writer.ts";
import { removeSpareFiles, SpareFiles } from "./log/spare-files.ts";
import {
  type CleanProgress,
  defaultMaintenance,
  Maintenance,
  type MaintenanceSettings,
} from "./maintenance.ts";
import { MapNodes } from "./map/map-nodes.ts";
import { MapObjects } from "./map/map-objects.ts";
import { openIdentity } from "./open-identity.ts";
import type { Point } from "./point.ts";
import { Purger } from "./purge.ts";
import { readBlocks } from "./read-blocks.ts";
import { type Recovery, recover } from "./recovery.ts";
import { SegmentTable } from "./segment.ts";
import { pathOf, SegmentReader } from "./segment-reader.ts";
import { SpaceGuard } from "./space-guard.ts";
import { StoreState } from "./state.ts";
import { StillGate } from "./still-gate.ts";
import { Tip } from "./tip.ts";
import { refuseIncomplete } from "./upload/incomplete.ts";
import { PendingPoints } from "./upload/pending-points.ts";
import type { Uploads } from "./upload/uploads.ts";

/** What keeps names and tags: it sees every record, and its state goes into checkpoints. */
export interface Registry {
  /** The state it once saved; undefined for a new store. Plain data. */
  load(saved: unknown): void;
  /** A record that is a fact now. */
  apply(record: CatalogRecord): void;
  save(): unknown;
  /** What people call a point; undefined if they do not see it. */
  nameOfPoint?(point: number): string | undefined;
}

export interface StoreSettings {
  /** Where the store keeps what is not on the backend: space is measured there. */
  directory: string;
  /** Make the store if there is none. */
  create: boolean;
  segmentBytesMax?: number;
  syncBytes?: number;
  mapBytesMax?: number;
  reserveBytes?: number | undefined;
  /** Records and checkpoints that a newer one covers stay for so long. */
  graceMs?: number | undefined;
  maintenance?: Partial<MaintenanceSettings>;
  /** Go on with what is left where data that had been synced is gone. */
  acceptDamage?: boolean;
  /** Go on though snapshots are not complete; whoever says so deletes them. */
  acceptLoss?: boolean | undefined;
}

export interface StoreComponents {
  host: Host;
  backend: Backend;
  registry: Registry;
  /** The way to the object store, for a store that is in one. */
  uploads?: Uploads | undefined;
  /** Held for as long as the store is open; released by `close`. */
  lock?: FileLock | undefined;
}

const defaultSegmentBytes = 64 * 2 ** 20;
const defaultSyncBytes = 8 * 2 ** 20;
const defaultMapBytes = 128 * 2 ** 20;

/**
 * A log-structured store: block ranges of numbered points in, durable bytes out. It knows points and maps,
 * not names or protocols.
 */
export class Store {
  readonly identity: Identity;
  readonly state: StoreState;
  readonly space: SpaceGuard;
  readonly reader: SegmentReader;
  readonly catalog: Catalog;
  readonly cleaner: Cleaner;
  readonly backend: Backend;
  /** Entries of logs that opening had to read again; 0 after a clean stop. */
  readonly replayedEntries: number;
  /** Snapshots that lack something, because it was lost with the machine that wrote it. */
  readonly incomplete: readonly number[];
  /** Of a store in an object store: snapshots that are not there yet. */
  readonly pending = new PendingPoints();
  readonly #settings: Required<Pick<StoreSettings, "segmentBytesMax" | "syncBytes">>;
  readonly #components: StoreComponents;
  readonly #checkpointer: Checkpointer;
  readonly #purger: Purger;
  readonly #maintenance: Maintenance;
  readonly #gate = new StillGate();
  readonly #spares: SpareFiles;
  #closing: Promise<void> | undefined;
  /** Of logs that are closed. */
  readonly #ended = noTotals();

  static async open(settings: StoreSettings, components: StoreComponents): Promise<Store> {
    const { backend, host, registry } = components;
    const identity = await openIdentity(settings, components);
    const space = new SpaceGuard(settings, { files: host.files, clock: host.clock });
    await space.check();
    await removeSpareFiles(pathOf(backend, spareDirectory), host.files);
    const mapObjects = new MapObjects({ backend });
    const nodes = new MapNodes(
      { limitBytes: settings.mapBytesMax ?? defaultMapBytes },
      { reader: mapObjects },
    );
    const state = new StoreState({ segments: new SegmentTable(), nodes, mapObjects });
    const acceptDamage = settings.acceptDamage ?? false;
    const { uploads } = components;
    const recovery = await recover(state, { backend, host, uploads, acceptDamage });
    await uploads?.settleFiles(state);
    registry.load(recovery.registry);
    for (const record of recovery.records) registry.apply(record);
    // Before anything is written: a checkpoint would take what is left for all there was.
    if (settings.acceptLoss !== true) refuseIncomplete(recovery.incomplete, registry);
    const store = new Store({ settings, components, identity, state, space, recovery });
    store.#maintenance.start();
    return store;
  }

  private constructor(parts: {
    settings: StoreSettings;
    components: StoreComponents;
    identity: Identity;
    state: StoreState;
    space: SpaceGuard;
    recovery: Recovery;
  }) {
    const { settings, components, state, recovery } = parts;
    const { backend, host, registry } = components;
    this.#components = components;
    this.identity = parts.identity;
    this.state = state;
    this.space = parts.space;
    this.backend = backend;
    this.replayedEntries = recovery.replayedEntries;
    this.incomplete = recovery.incomplete;
    if (components.uploads !== undefined) {
      this.pending.awaitStart(frozenIn(recovery.records), components.uploads.settled());
    }
    this.#settings = {
      // Cleaning writes a body of up to this size from the reserve.
      segmentBytesMax:
        settings.segmentBytesMax ??
        Math.min(defaultSegmentBytes, Math.floor(parts.space.reserveBytes / 2)),
      syncBytes: settings.syncBytes ?? defaultSyncBytes,
    };
    this.reader = new SegmentReader({ backend });
    const { segmentBytesMax } = this.#settings;
    const { uploads } = components;
    this.#spares = new SpareFiles(
      {
        directory: pathOf(backend, spareDirectory),
        segmentBytesMax,
        // The files of segments that are elsewhere too are a cache.
        ...(uploads === undefined ? {} : { filesMax: 0 }),
      },
      { files: host.files, log: host.log, space: parts.space },
    );
    const apply = (record: CatalogRecord) => {
      state.apply(record);
      registry.apply(record);
    };
    const { lastRecord, checkpoint } = recovery;
    this.catalog = new Catalog({ last: lastRecord }, { backend, host, apply });
    this.#purger = new Purger({ state, log: host.log });
    const { catalog } = this;
    this.#checkpointer = new Checkpointer(
      { number: checkpoint, floors: recovery.floors },
      {
        state,
        catalog,
        backend,
        host,
        saveRegistry: () => registry.save(),
        whenStill: (action) => this.#gate.whenStill(action),
        uploads,
        graceMs: settings.graceMs,
      },
    );
    this.cleaner = new Cleaner({
      state,
      backend,
      reader: this.reader,
      needsForReplay: (log, segment) => this.#checkpointer.needsForReplay(log, segment),
      flushLogs: () => this.#flushLogs(),
      spares: this.#spares,
      log: host.log,
    });
    this.#maintenance = new Maintenance(
      { ...defaultMaintenance, ...settings.maintenance },
      {
        state,
        catalog,
        checkpointer: this.#checkpointer,
        cleaner: this.cleaner,
        purger: this.#purger,
        backend,
        space: parts.space,
        spares: this.#spares,
        uploads,
        host,
      },
    );
    if (recovery.replayedEntries > 0) this.#maintenance.recoverSoon();
  }

  /** A number for a point that a later call will make. */
  allocateId(): number {
    return this.state.allocateId();
  }

  point(id: number): Point {
    return this.state.point(id);
  }

  /** The writable end of a line; at most one for a point at any time. */
  tip(point: Point): Tip {
    return new Tip(point, {
      source: this.#source,
      segments: this.state.segments,
      space: this.space,
      openLog: (tip) => this.#openLog(tip),
      relieve: () => this.#maintenance.relieve(),
    });
  }

  /** Fills `target`, whole blocks, from a point as it is. */
  read(point: Point, range: { target: Uint8Array; first: number }): Completion<void> {
    return readBlocks(this.#source, point.map, range);
  }

  /** Makes whatever the changes say, in one record. Not for tips that are open: see below. */
  async commit(changes: PointChange[], notes: unknown[]): Promise<void> {
    this.#mustBeOpen();
    const bases = changes.flatMap((change) => (change.type === "point" ? [change.parent] : []));
    const wait = this.pending.basesArrived(bases);
    if (wait !== undefined) await wait;
    await this.catalog.commit({ changes, notes });
  }

  /** One snapshot of each tip, all at one moment, in one record, in which `along` happens too. */
  snapshot(
    requests: readonly SnapshotRequest[],
    notes: unknown[],
    along: readonly PointChange[] = [],
  ): Promise<void> {
    this.#mustBeOpen();
    const record = { notes, along };
    return this.#gate.during(() =>
      holdingTips(requests, () => snapshotTips(requests, record, this.#branchComponents)),
    );
  }

  /** Moves tips to other points, in one record. Nobody may write to them meanwhile. */
  async move(requests: readonly MoveRequest[], notes: unknown[]): Promise<void> {
    this.#mustBeOpen();
    const bases = requests.flatMap(({ to }) => (to.kind === "new" ? [to.base.id] : []));
    const wait = this.pending.basesArrived(bases);
    if (wait !== undefined) await wait;
    await this.#gate.during(() =>
      holdingTips(requests, () => moveTips(requests, notes, this.#branchComponents)),
    );
  }

  /** Flushes and ends the tip's log. It may be written again: that begins a new one. */
  async closeTip(tip: Tip): Promise<void> {
    const { log } = tip;
    if (log === undefined) return;
    await log.close();
    tip.log = undefined;
    this.state.logs.delete(log.log);
    addTotals(this.#ended, log);
  }

  allocation(point: Point, range: BlockRange): Promise<BlockExtent[]> {
    return allocationExtents(point.map, range);
  }

  depth(point: Point, range: BlockRange): Promise<BlockExtent[]> {
    return depthExtents(point, this.state.segments, range);
  }

  changed(from: Point, to: Point, range: BlockRange): Promise<BlockExtent[]> {
    return changedExtents(from.map, to.map, range);
  }

  checkpoint(): Promise<void> {
    this.#mustBeOpen();
    return this.#maintenance.checkpoint();
  }

  clean(options?: CleanProgress): Promise<number> {
    this.#mustBeOpen();
    return this.#maintenance.clean(options);
  }

  /** Runs `action` when what was deleted is purged, and while nothing is checkpointed or cleaned. */
  afterPurge<T>(action: () => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    return this.#maintenance.afterPurge(action);
  }

  /** Runs `action` while nothing is purged, checkpointed or cleaned. */
  exclusively<T>(action: () => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    return this.#maintenance.exclusively(action);
  }

  /** Whether recovery would read the segment as it was written. */
  needsForReplay(log: number, segment: number): boolean {
    return this.#checkpointer.needsForReplay(log, segment);
  }

  /** Of all logs since the store was opened. */
  logTotals(): LogTotals {
    const totals = { ...this.#ended };
    for (const { writer } of this.state.logs.values()) {
      if (writer !== undefined) addTotals(totals, writer);
    }
    return totals;
  }

  /** Flushes, seals, writes a checkpoint: the next open has nothing to recover. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { backend, host, lock, uploads } = this.#components;
    uploads?.hasten();
    await this.#maintenance.stop();
    // A change whose outcome cannot be found out must not keep the rest from closing.
    const catalogClosed = this.catalog.close();
    try {
      await this.#closeLogs();
      await this.#purger.settled();
      await this.#checkpointer.write();
      await uploads?.release();
    } catch (error) {
      // Nothing is lost by it: the next open recovers from the logs.
      host.log.error("closing was not clean", { error: messageOf(error) });
    } finally {
      await catalogClosed;
      await this.reader.close();
      await this.#spares.removeAll();
      await this.state.mapObjects.close();
      await backend.close();
      await lock?.release();
    }
  }

  /** All of them, also after one failed; then there is no checkpoint, and the next open recovers. */
  async #closeLogs(): Promise<void> {
    const failures: unknown[] = [];
    for (const { log, writer } of [...this.state.logs.values()]) {
      try {
        await writer?.close();
        this.state.logs.delete(log);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  #openLog(tip: Tip): Promise<LogWriter> {
    this.#mustBeOpen();
    return this.#gate.during(() => tip.structure.run(() => this.#beginLog(tip)));
  }

  async #beginLog(tip: Tip): Promise<LogWriter> {
    const { backend, host } = this.#components;
    const log = this.allocateId();
    const change: PointChange = { type: "assign", log, from: 0, point: tip.point.id };
    await this.catalog.commit({ changes: [change], notes: [] });
    const prefix = logPrefix(log);
    const writer = new LogWriter(
      {
        log,
        first: 0,
        storeId: Buffer.from(this.identity.id, "hex"),
        directory: pathOf(backend, prefix.slice(0, -1)),
        fileName: (number) => segmentKey(log, number).slice(prefix.length),
        ...this.#settings,
      },
      {
        files: host.files,
        log: host.log,
        timers: host.timers,
        sink: tip,
        spares: this.#spares,
        upload: this.#components.uploads?.begin(log),
      },
    );
    const state = this.state.logs.get(log);
    assert(state !== undefined);
    state.writer = writer;
    tip.log = writer;
    return writer;
  }

  async #flushLogs(): Promise<void> {
    for (const { writer } of this.state.logs.values()) await writer?.settle();
    await this.#components.uploads?.settled();
  }

  get isInObjectStore(): boolean {
    return this.#components.uploads !== undefined;
  }

  get files(): Files {
    return this.#components.host.files;
  }

  get timers(): Timers {
    return this.#components.host.timers;
  }

  get #source() {
    return { segments: this.state.segments, reader: this.reader, log: this.#components.host.log };
  }

  get #branchComponents() {
    const { state, catalog, pending } = this;
    return { state, catalog, pending, purger: this.#purger };
  }

  #mustBeOpen(): void {
    if (this.#closing !== undefined) throw new KelpieError("closed", "the store is closed");
  }
}

/** Points that records made others stand on. */
function frozenIn(records: readonly CatalogRecord[]): number[] {
  return records.flatMap(({ changes }) =>
    changes.flatMap((change) => (change.type === "point" ? [change.parent] : [])),
  );
}

function holdingTips<T>(requests: readonly { tip: Tip }[], action: () => Promise<T>): Promise<T> {
  const tips = requests.map(({ tip }) => tip).sort((a, b) => a.point.id - b.point.id);
  return runHolding(
    tips.map((tip) => tip.structure),
    action,
  );
}
