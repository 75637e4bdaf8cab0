import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import { Algorithm, Calendar, type Limit, Outage, Subject } from "@tollgate/limits_pb.js";
import { count, duration } from "@/lib/format";

export const subjects = [
  { value: Subject.USER, text: "Each user" },
  { value: Subject.IP, text: "Each IP address" },
  { value: Subject.API_KEY, text: "Each API key" },
  { value: Subject.USER_IP, text: "Each user at each IP address" },
  { value: Subject.CUSTOM, text: "Each value of an entry of the context" },
  { value: Subject.GLOBAL, text: "Everybody together" },
];

export const algorithms = [
  { value: Algorithm.GCRA, text: "Steady rate with bursts (GCRA)" },
  { value: Algorithm.SLIDING_WINDOW, text: "Sliding window" },
  { value: Algorithm.FIXED_WINDOW, text: "Fixed window" },
  { value: Algorithm.CALENDAR, text: "Day, week or month: a quota" },
  { value: Algorithm.BACKOFF, text: "Ever longer waits (backoff)" },
];

export const calendars = [
  { value: Calendar.DAY, text: "Each day" },
  { value: Calendar.WEEK, text: "Each week" },
  { value: Calendar.MONTH, text: "Each month" },
];

export const outages = [
  { value: Outage.LOCAL, text: "Each instance counts by itself" },
  { value: Outage.OPEN, text: "Let calls pass" },
  { value: Outage.CLOSED, text: "Refuse calls" },
];

export const textOf = <V>(options: readonly { value: V; text: string }[], value: V): string => options.find((option) => option.value === value)?.text ?? "";

export const seconds = (value: Duration | undefined): number => (value ? durationMs(value) / 1000 : 0);

/** "each tenant", "everybody together". */
export function subjectText(limit: Pick<Limit, "subject" | "contextKey">): string {
  if (limit.subject === Subject.CUSTOM) return `each “${limit.contextKey}” of the context`;
  return textOf(subjects, limit.subject).toLowerCase().replace("ip", "IP").replace("api", "API");
}

const periods = new Map([
  [1, "a second"],
  [60, "a minute"],
  [3600, "an hour"],
  [86_400, "a day"],
]);

const calendarText = new Map([
  [Calendar.DAY, "a day"],
  [Calendar.WEEK, "a week"],
  [Calendar.MONTH, "a month"],
]);

type Shape = Pick<Limit, "rate" | "burst" | "algorithm" | "calendar" | "timeZone" | "period">;

/** "60 a minute, 100 at once". */
export function allows({ rate, burst, algorithm, calendar, timeZone, period }: Shape): string {
  if (algorithm === Algorithm.CALENDAR) return `${count(rate)} ${calendarText.get(calendar) ?? ""} (${timeZone || "UTC"})`;
  const each = seconds(period);
  if (algorithm === Algorithm.BACKOFF) return `${count(burst)} at once, then waits that double up to ${duration(each)}`;
  const per = periods.get(each) ?? `in ${duration(each)}`;
  const once = algorithm === Algorithm.GCRA || algorithm === Algorithm.UNSPECIFIED ? burst || rate : rate;
  return `${count(rate)} ${per}${once === rate ? "" : `, ${count(once)} at once`}`;
}

/** What keys of the limit look like, for a field. */
export const keyText = (limit: Limit): string =>
  ({
    [Subject.UNSPECIFIED]: "Key",
    [Subject.USER]: "User",
    [Subject.IP]: "IP address",
    [Subject.API_KEY]: "API key's id",
    [Subject.USER_IP]: "User and address (USER@ADDRESS)",
    [Subject.CUSTOM]: `Value of “${limit.contextKey}”`,
    [Subject.GLOBAL]: "Everybody",
  })[limit.subject];

/** Sign-ins are counted under the user's name, other calls under the id. */
export const byName = (limit: Limit): boolean => limit.permission === "tollgate:login" || limit.permission === "tollgate:second-factor";

export interface Used {
  quota: bigint;
  remaining: bigint;
}

/** How much of a limit is used: 0 to 1. */
export const share = ({ quota, remaining }: Used): number => (quota > 0n ? Math.min(1, Math.max(0, 1 - Number(remaining) / Number(quota))) : 1);
