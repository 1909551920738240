import { type Chooser, SeededRandom } from "../../sim/random.ts";

export interface LossSettings {
  /** Up to this many images, every combination is made. */
  imagesMax: number;
  /** Else of single losses, and of single survivors, at most this many, spread evenly … */
  singlesMax: number;
  /** … and this many drawn by the seed. */
  samples: number;
  seed: number;
}

/** What one crash may leave. */
export interface Losses<T> {
  /** Each with its name, for people: "kept 0,1,1", "all but choice 3", "seed 17". */
  images: { name: string; image: T }[];
  /** Whether these are all that there can be. */
  isExhaustive: boolean;
}

/**
 * Makes the images that a crash may leave. `make` asks the chooser for everything that may be kept
 * or lost, in an order of its own, and what it asks for may depend on earlier answers; 0 loses.
 */
export function walkLosses<T>(settings: LossSettings, make: (chooser: Chooser) => T): Losses<T> {
  const all = everyLoss(settings.imagesMax, make);
  if (all !== undefined) return { images: all, isExhaustive: true };
  return { images: someLosses(settings, make), isExhaustive: false };
}

/** Walks the tree of choices to its last leaf; undefined if there are too many. */
function everyLoss<T>(
  imagesMax: number,
  make: (chooser: Chooser) => T,
): Losses<T>["images"] | undefined {
  const everything = new PathChooser([], 1);
  make(everything);
  if (2 ** everything.asked.length > imagesMax) return undefined;
  const images: Losses<T>["images"] = [];
  for (let path: number[] | undefined = []; path !== undefined; ) {
    const chooser = new PathChooser(path, 0);
    const image = make(chooser);
    images.push({ name: `kept ${chooser.taken.join(",") || "nothing"}`, image });
    if (images.length > imagesMax) return undefined;
    path = nextPath(chooser);
  }
  return images;
}

/** The leaf to the right of the one that was just visited. */
function nextPath({ asked, taken }: PathChooser): number[] | undefined {
  for (let at = taken.length - 1; at >= 0; at--) {
    const next = (taken[at] as number) + 1;
    if (next < (asked[at] as number)) return [...taken.slice(0, at), next];
  }
  return undefined;
}

function someLosses<T>(settings: LossSettings, make: (chooser: Chooser) => T): Losses<T>["images"] {
  const images: Losses<T>["images"] = [];
  for (const [otherwise, text] of [
    [0, "nothing"],
    [1, "all"],
  ] as const) {
    const base = new PathChooser([], otherwise);
    images.push({ name: text, image: make(base) });
    for (const at of spread(base.asked.length, settings.singlesMax)) {
      const path = [...Array.from({ length: at }, () => otherwise), 1 - otherwise];
      const image = make(new PathChooser(path, otherwise));
      images.push({ name: `${text} but choice ${at}`, image });
    }
  }
  for (let sample = 0; sample < settings.samples; sample++) {
    const seed = settings.seed + sample;
    images.push({ name: `seed ${seed}`, image: make(new SeededRandom(seed)) });
  }
  return images;
}

function spread(count: number, countMax: number): number[] {
  if (count <= countMax) return Array.from({ length: count }, (_, at) => at);
  return Array.from({ length: countMax }, (_, at) => Math.floor((at * count) / countMax));
}

/** More alternatives than this are the bytes of a size, of which only whole sectors differ. */
const alternativesMax = 64;
const sectorBytes = 512;

/** Takes the alternatives of a path, then always the same one, and notes what it was asked. */
class PathChooser implements Chooser {
  /** How many alternatives each choice had. */
  readonly asked: number[] = [];
  readonly taken: number[] = [];
  readonly #path: readonly number[];
  readonly #otherwise: number;

  constructor(path: readonly number[], otherwise: number) {
    this.#path = path;
    this.#otherwise = otherwise;
  }

  below(limit: number): number {
    const step = limit > alternativesMax ? sectorBytes : 1;
    const alternatives = Math.ceil(limit / step);
    const wanted = this.#path[this.taken.length] ?? this.#otherwise;
    const taken = Math.min(wanted, alternatives - 1);
    this.asked.push(alternatives);
    this.taken.push(taken);
    return taken * step;
  }
}
