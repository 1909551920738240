import type { RequestMeter } from "../block/request-meter.ts";
import type { Log } from "../host/log.ts";
import type { ObjectClient, Objects } from "../vdi/objects/objects.ts";
import type { Turns } from "../vdi/objects/turns.ts";
import type { Cluster, StoreFacts } from "./cluster.ts";
import type { RequestPrefix } from "./wire-request.ts";

/** A request that moves no data of a disk, whole. */
export interface Call {
  readonly prefix: Readonly<RequestPrefix>;
  /** The request's 48 bytes. */
  readonly header: Uint8Array;
  readonly payload: Uint8Array;
  readonly client: ObjectClient;
}

export interface Answer {
  /** Success if it is not said. */
  result?: number;
  /** What is longer than the client is ready to take is cut. */
  payload?: Uint8Array;
  /** Writes the opcode's fields into the response that begins at `at`. */
  fill?(bytes: Uint8Array, at: number): void;
}

/** What operations work with. */
export interface OperationParts {
  objects: Objects;
  cluster: Cluster;
  store: StoreFacts;
  log: Log;
  /** For operations that are long and wait for nothing. */
  turns: Turns;
  /** What would wipe every disk or end the server may be done by whoever reaches the port. */
  allowAdmin: boolean;
  meterOfVid?: ((vid: number) => RequestMeter | undefined) | undefined;
  /** Ends the server, soon. */
  stop(): void;
}

export type Run = (call: Call, parts: OperationParts) => Promise<Answer>;

export type Operation = { readonly name: string } & (
  | /** Moves bytes of objects: the connection does it itself, see object-requests.ts. */
  { readonly kind: "object" } /** Cluster: one at a time over all connections. */
  | { readonly kind: "local" | "cluster"; readonly run: Run }
  | { readonly kind: "refused"; readonly result: number; readonly reason: string }
);
