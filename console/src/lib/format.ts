const relativeFormat = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const dateFormat = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });
const compactFormat = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const countFormat = new Intl.NumberFormat("en");

const steps: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_557_600_000],
  ["month", 2_629_800_000],
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
];

/** "3 minutes ago", "in 2 days", for a distance in milliseconds. */
export function relative(ms: number): string {
  for (const [unit, size] of steps) {
    if (Math.abs(ms) >= size) return relativeFormat.format(Math.trunc(ms / size), unit);
  }
  const seconds = Math.trunc(ms / 1000);
  return Math.abs(seconds) < 5 ? "now" : relativeFormat.format(seconds, "second");
}

export const exact = (date: Date): string => dateFormat.format(date);

/** "14:50:11" of today, "Nov 29, 14:50:11" of another day. */
export function inLog(date: Date): string {
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en", { month: "short", day: "numeric" })}, ${time}`;
}

/** "1.2K", for charts and counters. */
export const compact = (n: number | bigint): string => compactFormat.format(n);

/** "1,234". */
export const count = (n: number | bigint): string => countFormat.format(n);

/** "1 session", "3 sessions". */
export const counted = (n: number | bigint, one: string, many = `${one}s`): string => `${count(n)} ${Number(n) === 1 ? one : many}`;

/** "500 ms", "1 minute", "2 hours 30 minutes". */
export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const parts: string[] = [];
  let left = Math.round(seconds);
  for (const [size, name] of [
    [86_400, "day"],
    [3600, "hour"],
    [60, "minute"],
    [1, "second"],
  ] as const) {
    const n = Math.floor(left / size);
    if (n > 0 && parts.length < 2) parts.push(counted(n, name));
    left -= n * size;
  }
  return parts.join(" ");
}

/** An enum's name for people: Outcome[2] "DENIED" to "denied". */
export const words = (name: string | undefined): string => (name ?? "unknown").toLowerCase().replaceAll("_", " ");
