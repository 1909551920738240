import { z } from "zod";
import { KelpieError } from "../base/errors.ts";
import type { RequestCounts } from "../store/backend/counted-objects.ts";
import type { TieredBackend } from "../store/backend/tiered.ts";
import type { Uploads } from "../store/upload/uploads.ts";
import type { Objects } from "../vdi/objects/objects.ts";
import type { Vdis } from "../vdi/vdis.ts";
import {
  type CallArguments,
  type CallContext,
  type CallInput,
  type CallName,
  type CallOutput,
  type Control,
  calls,
} from "./calls.ts";
import { Entries } from "./entries.ts";
import { quotaCalls } from "./quota-calls.ts";
import { storeCalls } from "./store-calls.ts";
import { vdiCalls } from "./vdi-calls.ts";
import { vmCalls } from "./vm-calls.ts";
import type { Vms } from "./vms.ts";

/** One handler for each call, with what it was asked for and where to tell of progress. */
export type Handlers<N extends CallName> = {
  [K in N]: (input: CallArguments<K>, context: CallContext) => Promise<CallOutput<K>>;
};

export interface ControlParts {
  vdis: Vdis;
  vms: Vms;
  /** The disks as Sheepdog's clients see them. */
  objects: Objects;
  entries: Entries;
  /** The store as the user named it. */
  url: string;
  /** What is between the store and the object store that it is in. */
  remote: RemoteParts | undefined;
}

export interface RemoteParts {
  counts: RequestCounts;
  uploads: Uploads;
  backend: TieredBackend;
}

/** Everything the product can do, over an open store. */
export function createControl(
  settings: { url: string },
  components: { vdis: Vdis; vms: Vms; objects: Objects; remote?: RemoteParts | undefined },
): Control {
  const entries = new Entries({ vdis: components.vdis });
  const { remote } = components;
  const parts: ControlParts = { ...components, remote, entries, url: settings.url };
  const handlers: Handlers<CallName> = {
    ...withoutServer,
    ...vdiCalls(parts),
    ...quotaCalls(parts),
    ...storeCalls(parts),
    ...vmCalls(parts),
  };
  return {
    call: async (name, input, context = {}) => {
      const handler = handlers[name] as Handlers<typeof name>[typeof name];
      return await handler(parseInput(name, input), context);
    },
  };
}

const noServer = async (): Promise<never> => {
  throw new KelpieError("unsupported", "no server is running", {
    remedy: "`kelpie serve` is one.",
  });
};

/** What only a server can answer. */
const withoutServer: Handlers<Extract<CallName, `server.${string}` | `job.${string}`>> = {
  "server.info": noServer,
  "server.statistics": noServer,
  "server.history": noServer,
  "server.connections": noServer,
  "server.changes": noServer,
  "job.start": noServer,
  "job.list": noServer,
  "job.info": noServer,
  "job.cancel": noServer,
};

function parseInput<N extends CallName>(name: N, input: CallInput<N>): CallArguments<N> {
  const parsed = calls[name].input.safeParse(input);
  if (parsed.success) return parsed.data as CallArguments<N>;
  throw new KelpieError("invalid", `${name}: ${z.prettifyError(parsed.error)}`);
}
