const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** "4.0 KiB", as on the command line. */
export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.round(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(unit === 0 || value >= 9.95 ? 0 : 1)} ${units[unit]}`;
}

/** "10G", "512M" or a number of bytes; undefined if it is none of them. */
export function parseSize(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$/i.exec(text);
  if (match === null) return undefined;
  const power = match[2] === "" ? 0 : "kmgtp".indexOf((match[2] ?? "").toLowerCase()) + 1;
  const bytes = Number(match[1]) * 1024 ** power;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

export function count(value: number): string {
  if (value >= 9_999_500) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 9_999.5) return `${(value / 1000).toFixed(0)} k`;
  if (value >= 99.5 || value === 0 || Number.isInteger(value)) return Math.round(value).toString();
  return value.toFixed(1);
}

export function duration(ms: number): string {
  if (ms === 0) return "–";
  if (ms < 0.9995) return `${Math.round(ms * 1000)} µs`;
  if (ms < 999.5) return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

const dateAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const dayAndTime = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
});
const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const minuteOnly = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

export const date = (ms: number): string => dateAndTime.format(ms);
export const shortDate = (ms: number): string => dayAndTime.format(ms);
export const time = (ms: number): string => timeOnly.format(ms);
export const minute = (ms: number): string => minuteOnly.format(ms);

export function plural(amount: number, one: string, many = `${one}s`): string {
  return `${amount} ${amount === 1 ? one : many}`;
}
