import { KelpieError } from "./errors.ts";

/** A duration as people write it, in milliseconds: "500ms", "90s", "15m", "1h", "2d"; "0". */
export function parseDuration(text: string): number {
  const match = durationPattern.exec(text.trim());
  const unit = match?.[2] ?? "";
  const unitMs = unit === "" ? 0 : unitsMs[unit.toLowerCase()];
  const value = Number(match?.[1]);
  if (match === null || unitMs === undefined || (unit === "" && value !== 0)) {
    throw new KelpieError("invalid", `"${text}" is not a duration`, {
      remedy: "write it like 90s, 15m, 1h or 2d",
    });
  }
  const ms = value * unitMs;
  if (!(ms <= durationMsMax)) {
    throw new KelpieError("invalid", `"${text}": that is longer than a hundred years`);
  }
  return Math.round(ms);
}

/** For people, rounded up to seconds: "0:07", "3:25", "1:02:09". */
export function formatClock(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60];
  const hours = Math.floor(seconds / 3600);
  const tail = parts.map((part) => String(part).padStart(2, "0"));
  return hours > 0 ? `${hours}:${tail.join(":")}` : `${parts[0]}:${tail[1]}`;
}

const durationPattern = /^(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|d|)$/i;
const unitsMs: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** More is surely a slip of the finger, and dates that far off are no dates any more. */
const durationMsMax = 100 * 365 * 86_400_000;
