import { DecisionSource, type DecisionCount, type OverviewBucket } from "@tollgate/overview_pb.js";
import { Reason } from "@tollgate/reason_pb.js";
import type { Series } from "@/lib/chart";

type Outcome = "allowed" | "refused" | "limited" | "unknown";

/** The four kinds that the chart tells apart, out of all reasons. */
function outcome(reason: Reason): Outcome {
  switch (reason) {
    case Reason.OK:
      return "allowed";
    case Reason.LIMITED:
    case Reason.TOO_MANY_ATTEMPTS:
      return "limited";
    case Reason.CREDENTIAL_MISSING:
    case Reason.CREDENTIAL_INVALID:
    case Reason.CREDENTIAL_EXPIRED:
    case Reason.CREDENTIAL_REVOKED:
    case Reason.USER_DISABLED:
    case Reason.USER_UNKNOWN:
    case Reason.WRONG_AUDIENCE:
      return "unknown";
    default:
      return "refused";
  }
}

const looks: readonly { outcome: Outcome; name: string; color: string }[] = [
  { outcome: "allowed", name: "Allowed", color: "--chart-1" },
  { outcome: "refused", name: "Not permitted", color: "--chart-2" },
  { outcome: "limited", name: "Over a limit", color: "--chart-3" },
  { outcome: "unknown", name: "Bad credential", color: "--chart-4" },
];

/** Whose decisions are counted: all, services and proxies only, or Tollgate's own API only. */
export type Who = "all" | "services" | "api";

const counts = (who: Who) => (d: DecisionCount) => who === "all" || (d.source === DecisionSource.API) === (who === "api");

const add = (list: readonly DecisionCount[], want?: Outcome) =>
  list.reduce((sum, d) => (want === undefined || outcome(d.reason) === want ? sum + Number(d.count) : sum), 0);

/** Decisions per second by outcome, for the chart. */
export function series(buckets: readonly OverviewBucket[], who: Who, seconds: number): Series[] {
  return looks.map((look) => ({
    name: look.name,
    color: look.color,
    values: buckets.map((b) => add(b.decisions.filter(counts(who)), look.outcome) / seconds),
  }));
}

/** Decisions of each bucket, all or of one outcome. */
export const totals = (buckets: readonly OverviewBucket[], who: Who, want?: Outcome): number[] =>
  buckets.map((b) => add(b.decisions.filter(counts(who)), want));

export const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
