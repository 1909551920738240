import type { Exports } from "../block/exports.ts";
import type { Control, Progress } from "../control/calls.ts";
import type { ServerEvents } from "../control/server-events.ts";
import type { StoreFigures } from "../control/server-shapes.ts";
import type { StoreCopyResult } from "../control/store-copy.ts";
import type { Host } from "../host/host.ts";
import type { Address } from "../host/net.ts";
import type { StoreFacts } from "../sheepdog/cluster.ts";
import type { Objects } from "../vdi/objects/objects.ts";
import type { Terminal } from "./terminal.ts";

/** What a command line runs in. The real one is made by `main`; tests make their own. */
export interface CliContext {
  readonly host: Host;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Calls `action` at each SIGHUP, which else ends a process, until what it returns is called. */
  readonly onHangup?: (action: () => void) => () => void;
  readonly version: string;
  readonly pid: number;
  /** If a person sits at one: both standard input and output are it. */
  readonly terminal?: Terminal | undefined;
  readonly openLocal: OpenLocal;
  /** Where the console's page is, if it was built. */
  readonly consoleDirectory?: string | undefined;
}

export interface Output {
  readonly isTerminal: boolean;
  readonly columns: number;
  /** Completes when it may be called again. Throws `BrokenPipe` when nobody reads any more. */
  write(data: string | Uint8Array): Promise<void>;
}

/** `kelpie vdi list | head`: not worth a message. */
export class BrokenPipe extends Error {
  constructor() {
    super("nobody reads the output any more");
    this.name = "BrokenPipe";
  }
}

/** A store that this process has opened itself. */
export interface LocalStore {
  readonly control: Control;
  readonly exports: Exports;
  /** Told where its disks are served, before anybody asks for a VM. */
  readonly vms?: { serve(addresses: readonly Address[]): void };
  /** What clients of Sheepdog are served; absent where the store is such a cluster itself. */
  readonly sheepdog?: { objects: Objects; store: StoreFacts };
  /** Told before it stops being served: nobody waits for a disk's rate, or an absent cluster, any more. */
  endWaits?(): void;
  /** What of a store can be watched; absent where it is elsewhere. */
  figures?(): StoreFigures;
  watch?(events: ServerEvents): void;
  nameOfVid?(vid: number): string | undefined;
  /** Copies all of it to a place that has nothing. Absent where that cannot be. */
  copyTo?(place: string, options: CopyToOptions): Promise<StoreCopyResult>;
  /** Flushes and leaves a store that opens without recovery. */
  close(): Promise<void>;
}

export interface CopyToOptions {
  s3: S3Options;
  progress: (progress: Progress) => void;
  signal: AbortSignal;
}

export interface OpenLocalOptions {
  host: Host;
  /** Make a store if there is none; otherwise that is "not-found". */
  create: boolean;
  /** Where data is gone that had been synced, go on with what is left; otherwise that is "corrupt". */
  acceptDamage?: boolean;
  keepDiscarded?: KeepDiscarded;
  /** A disk that a client of Sheepdog has opened is refused to others. */
  lock?: boolean;
  /** Of a store that is not in this directory: what is kept on this machine. */
  directory?: string;
  s3?: S3Options;
}

/** Of a store in an object store. What is absent is as AWS's own tools have it. */
export interface S3Options {
  endpoint?: string;
  region?: string;
  /** By default if there is an endpoint. */
  pathStyle?: boolean;
  cacheBytes?: number;
  /** Also from a gateway that has not closed it. */
  takeOver?: boolean;
  /** Snapshots of which not all had been sent are deleted. */
  acceptLoss?: boolean;
}

/** Discarded tips are purged when they are older, or when they take more of the store. */
export interface KeepDiscarded {
  ms?: number;
  /** 0 … 1 of the store. */
  fraction?: number;
}

/** Opens the store at `url`, a directory or s3://bucket/prefix. "busy" when another process has it open. */
export type OpenLocal = (url: string, options: OpenLocalOptions) => Promise<LocalStore>;
