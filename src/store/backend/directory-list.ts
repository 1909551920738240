import { isKelpieError } from "../../base/errors.ts";
import type { FileStat, Files } from "../../host/files.ts";
import type { DirectoryTree } from "./directory-tree.ts";
import { isKeySegment } from "./keys.ts";

export interface ListQuery {
  prefix: string;
  /** Only keys that sort after this one; "" for all. */
  after: string;
  /** Files and directories, named like keys, that hold no keys. */
  isHidden: (key: string) => boolean;
}

export interface ListComponents {
  files: Files;
  tree: DirectoryTree;
}

/** What an object store gives at once, too. */
export const listedKeysMax = 1_000;

/** How many names ahead are asked what they are, at once. */
const lookAhead = 64;

/**
 * Keys in the order of their text, from a walk that opens only the directories which the prefix,
 * the key to start after and the limit let it open.
 */
export async function listDirectory(
  query: ListQuery,
  components: ListComponents,
): Promise<string[]> {
  const keys: string[] = [];
  const directory = query.prefix.slice(0, query.prefix.lastIndexOf("/") + 1);
  await walk(directory, { query, components, keys });
  return keys;
}

interface Walk {
  query: ListQuery;
  components: ListComponents;
  keys: string[];
}

/**
 * A name stands for one key if it is a file, for those below it if it is a directory, and as text
 * these sort in different places: "a" < "a-b" < "a.b" < "a/b". Both places are candidates.
 */
interface Candidate {
  text: string;
  key: string;
  kind: "file" | "directory";
}

async function walk(directory: string, state: Walk): Promise<void> {
  const candidates = await candidatesIn(directory, state);
  const kinds = new Map<string, FileStat["kind"]>();
  for (const [index, candidate] of candidates.entries()) {
    if (state.keys.length >= listedKeysMax) return;
    if (!kinds.has(candidate.key)) {
      const room = Math.min(lookAhead, listedKeysMax - state.keys.length);
      await learnKinds(candidates.slice(index, index + 2 * room), kinds, state.components);
    }
    if (kinds.get(candidate.key) !== candidate.kind) continue;
    if (candidate.kind === "file") state.keys.push(candidate.key);
    else await walk(candidate.text, state);
  }
}

async function candidatesIn(directory: string, state: Walk): Promise<Candidate[]> {
  const { query, components } = state;
  const candidates: Candidate[] = [];
  for (const name of await namesIn(directory, components)) {
    const key = directory + name;
    if (!isKeySegment(name) || query.isHidden(key)) continue;
    if (key.startsWith(query.prefix) && key > query.after) {
      candidates.push({ text: key, key, kind: "file" });
    }
    const below = `${key}/`;
    const wanted = below.startsWith(query.prefix) || query.prefix.startsWith(below);
    if (wanted && (below > query.after || query.after.startsWith(below))) {
      candidates.push({ text: below, key, kind: "directory" });
    }
  }
  return candidates.sort((one, other) => (one.text < other.text ? -1 : 1));
}

async function namesIn(directory: string, { files, tree }: ListComponents): Promise<string[]> {
  try {
    await tree.settle(directory.slice(0, -1));
    return await files.list(tree.pathOf(directory.slice(0, -1)));
  } catch (error) {
    // No key below it was ever put.
    if (isKelpieError(error, "not-found")) return [];
    throw error;
  }
}

async function learnKinds(
  candidates: readonly Candidate[],
  kinds: Map<string, FileStat["kind"]>,
  { files, tree }: ListComponents,
): Promise<void> {
  const keys = new Set(candidates.map((candidate) => candidate.key));
  const learn = async (key: string): Promise<void> => {
    try {
      kinds.set(key, (await files.stat(tree.pathOf(key))).kind);
    } catch (error) {
      if (!isKelpieError(error, "not-found")) throw error;
      // Deleted since it was listed; "other" is never a key.
      kinds.set(key, "other");
    }
  };
  await Promise.all(Array.from(keys, learn));
}
