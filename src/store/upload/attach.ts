import { KelpieError } from "../../base/errors.ts";
import type { Host } from "../../host/host.ts";
import {
  isObjectStoreError,
  type ObjectStore,
  type ObjectStoreError,
} from "../../host/object-store.ts";
import { identityKey, probesPrefix, topNames } from "../keys.ts";

/** Puts of one key at the same time, of which exactly one may succeed. */
const racers = 32;
/** Before it is said that an endpoint does not answer. */
const attempts = 3;
const pauseMs = 300;

/**
 * Looks at a bucket before anything is built on it: that it is there, that we may use it, that it holds a
 * store or nothing, and that it creates a key once. Fails in words for people.
 */
export async function checkBucket(objects: ObjectStore, host: Host): Promise<void> {
  const keys = await explained(objects, host, () =>
    objects.list({ prefix: "", after: "", max: 1_000 }),
  );
  const stranger = keys.find((key) => !topNames.has(key.split("/")[0] as string));
  if (stranger !== undefined && !(await hasIdentity(objects, host))) {
    throw new KelpieError("invalid", `${objects.url} holds something else: ${stranger}`, {
      remedy: "Name an empty place, such as a prefix of its own: s3://bucket/kelpie.",
    });
  }
  await race(objects, host);
}

async function hasIdentity(objects: ObjectStore, host: Host): Promise<boolean> {
  const keys = await explained(objects, host, () =>
    objects.list({ prefix: identityKey, after: "", max: 1 }),
  );
  return keys.includes(identityKey);
}

/** A store that lets two puts of one key succeed would lose a disk sooner or later. */
async function race(objects: ObjectStore, host: Host): Promise<void> {
  const name = Buffer.from(host.random.bytes(8)).toString("hex");
  const key = probesPrefix + name;
  const puts = Array.from({ length: racers }, async (_, index) => {
    const nonce = `${name}-${index}`;
    try {
      await objects.put(key, [Buffer.from(nonce)], nonce);
      return nonce;
    } catch (error) {
      // What was refused, or got no answer, may have won all the same: the key tells.
      if (!isObjectStoreError(error) || error.failure === "refused") throw error;
      return undefined;
    }
  });
  const winners = await explained(objects, host, async () => {
    const results = await Promise.allSettled(puts);
    for (const result of results) if (result.status === "rejected") throw result.reason;
    return results.flatMap((result) =>
      result.status === "fulfilled" && result.value !== undefined ? [result.value] : [],
    );
  });
  const { nonce } = await explained(objects, host, () => objects.head(key));
  await objects.remove([key]).catch(() => {}); // it takes a few bytes, and is in nobody's way
  if (winners.length > 1) {
    throw new KelpieError(
      "unsupported",
      `${objects.url}: of ${racers} puts of one key at once ${winners.length} succeeded, not one`,
      { remedy: "Kelpie needs a store that honours If-None-Match: * on PUT, atomically." },
    );
  }
  if (nonce === undefined || (winners.length === 1 && winners[0] !== nonce)) {
    throw new KelpieError("unsupported", `${objects.url}: it does not keep what was put first`, {
      remedy: "Kelpie needs a store that keeps metadata, and honours If-None-Match: * on PUT.",
    });
  }
}

async function explained<T>(
  objects: ObjectStore,
  host: Host,
  action: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await action();
    } catch (error) {
      if (!isObjectStoreError(error)) throw error;
      if (error.failure !== "unavailable" || attempt === attempts) throw explain(objects, error);
      await host.timers.sleep(error.retryAfterMs ?? pauseMs * attempt);
    }
  }
}

const credentials = {
  said: "the credentials are not accepted",
  remedy: "Look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or at AWS_PROFILE.",
};
const region = {
  said: "the bucket is in another region",
  remedy: "Say which with --s3-region or $AWS_REGION.",
};

const explanations: Record<string, { said: string; remedy: string }> = {
  CredentialsProviderError: {
    said: "there are no credentials",
    remedy: "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
  },
  InvalidAccessKeyId: credentials,
  SignatureDoesNotMatch: credentials,
  ExpiredToken: { ...credentials, said: "the credentials have run out" },
  AccessDenied: {
    said: "access is denied",
    remedy: "These credentials need to list the bucket, and get, put and delete objects in it.",
  },
  RequestTimeTooSkewed: {
    said: "the clock of this machine is off",
    remedy: "Set it: `timedatectl set-ntp true`, or `date`.",
  },
  NoSuchBucket: { said: "there is no such bucket", remedy: "Make it, or name another." },
  RegionMissing: { ...region, said: "it is not known in which region the bucket is" },
  PermanentRedirect: region,
  AuthorizationHeaderMalformed: region,
};

function explain(objects: ObjectStore, error: ObjectStoreError): KelpieError {
  const known = explanations[error.reason];
  if (known !== undefined) {
    const code = error.reason === "NoSuchBucket" ? "not-found" : "invalid";
    return new KelpieError(code, `${objects.url}: ${known.said}`, {
      cause: error,
      remedy: known.remedy,
    });
  }
  if (error.failure === "unavailable") {
    return new KelpieError("io", `${objects.url} does not answer: ${error.reason}`, {
      cause: error,
      remedy: "Look at --s3-endpoint, and whether the object store is running.",
    });
  }
  return new KelpieError("io", `${objects.url}: ${error.message} (${error.reason})`, {
    cause: error,
  });
}
