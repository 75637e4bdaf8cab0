import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Outcome } from "@tollgate/audit_pb.js";

/** The filters of the API, as the address names them. */
export const names = ["actor", "action", "outcome", "resource", "after", "before", "reason", "address", "session", "key", "request", "recorder"] as const;

/** Those that are rarely used, and out of the way until one is. */
export const rare = ["reason", "address", "session", "key", "request", "recorder"] as const satisfies readonly (typeof names)[number][];

export type Filter = Record<(typeof names)[number], string>;

export const outcomes = [
  { value: "", text: "Any outcome", code: Outcome.UNSPECIFIED },
  { value: "success", text: "Success", code: Outcome.SUCCESS },
  { value: "denied", text: "Denied", code: Outcome.DENIED },
  { value: "failure", text: "Failure", code: Outcome.FAILURE },
] as const;

export const fromQuery = (query: URLSearchParams): Filter => Object.fromEntries(names.map((name) => [name, query.get(name) ?? ""])) as Filter;

const time = (text: string): Timestamp | undefined => {
  const date = new Date(text);
  return text && !Number.isNaN(date.getTime()) ? timestampFromDate(date) : undefined;
};

/** What a watch, too, takes: all but the times. */
export const toWatch = (f: Filter) => ({
  actor: f.actor,
  action: f.action,
  outcome: outcomes.find((o) => o.value === f.outcome)?.code ?? Outcome.UNSPECIFIED,
  resource: f.resource,
  reason: f.reason,
  address: f.address,
  sessionId: f.session,
  apiKeyId: f.key,
  requestId: f.request,
  recordedBy: f.recorder,
});

export const toRequest = (f: Filter) => ({ ...toWatch(f), after: time(f.after), before: time(f.before) });

/** A filter that ends in the past shows no live events. */
export const isOver = (f: Filter): boolean => f.before !== "" && new Date(f.before).getTime() <= Date.now();
