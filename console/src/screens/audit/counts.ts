import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Outcome, SummaryBucket, type GetSummaryResponse } from "@tollgate/audit_pb.js";
import type { Series } from "@/lib/chart";
import { toRequest, type Filter } from "./filter";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** Longer times are counted by the day. */
const hourlyMs = 4 * dayMs;

/** What counts the events of a filter: of the last day, unless it names times. */
export function toSummary(f: Filter) {
  const request = toRequest(f);
  const before = request.before ? timestampDate(request.before).getTime() : Date.now();
  const after = request.after ? timestampDate(request.after).getTime() : before - dayMs;
  const bucket = before - after > hourlyMs ? SummaryBucket.DAY : SummaryBucket.HOUR;
  return { ...request, after: timestampFromMs(after), before: timestampFromMs(before), bucket };
}

export interface Counts {
  /** When each hour or day began, in milliseconds: also those in which nothing happened. */
  times: number[];
  /** How long each is. */
  length: number;
  series: Series[];
  total: number;
}

const looks = [
  { name: "Success", color: "--chart-1", outcome: Outcome.SUCCESS },
  { name: "Denied", color: "--chart-2", outcome: Outcome.DENIED },
  { name: "Failure", color: "--chart-3", outcome: Outcome.FAILURE },
] as const;

/** The counts of a summary by outcome, for the chart. */
export function countsOf(answer: GetSummaryResponse, bucket: SummaryBucket): Counts {
  const length = bucket === SummaryBucket.DAY ? dayMs : hourMs;
  const ms = (time: GetSummaryResponse["after"]) => (time ? timestampDate(time).getTime() : 0);
  const times: number[] = [];
  for (let t = Math.floor(ms(answer.after) / length) * length; t < ms(answer.before); t += length) times.push(t);
  const place = new Map(times.map((t, i) => [t, i]));
  let total = 0;
  const series = looks.map(({ name, color, outcome }) => {
    const values = new Array<number>(times.length).fill(0);
    for (const c of answer.counts) {
      const i = place.get(ms(c.time));
      if (c.outcome !== outcome || i === undefined) continue;
      values[i] = (values[i] ?? 0) + Number(c.count);
      total += Number(c.count);
    }
    return { name, color, values };
  });
  return { times, length, series, total };
}

/** A time as a field of type datetime-local has it. */
export function toField(ms: number): string {
  const date = new Date(ms);
  return new Date(ms - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
