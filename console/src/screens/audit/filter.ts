import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Outcome } from "@tollgate/audit_pb.js";

/** The filters of the API, as the address has them. */
export interface Filter {
  actor: string;
  action: string;
  outcome: string;
  resource: string;
  after: string;
  before: string;
}

export const names = ["actor", "action", "outcome", "resource", "after", "before"] as const satisfies readonly (keyof Filter)[];

export const outcomes = [
  { value: "", text: "Any outcome", code: Outcome.UNSPECIFIED },
  { value: "success", text: "Success", code: Outcome.SUCCESS },
  { value: "denied", text: "Denied", code: Outcome.DENIED },
  { value: "failure", text: "Failure", code: Outcome.FAILURE },
] as const;

export function fromQuery(query: URLSearchParams): Filter {
  const get = (name: string) => query.get(name) ?? "";
  return { actor: get("actor"), action: get("action"), outcome: get("outcome"), resource: get("resource"), after: get("after"), before: get("before") };
}

const time = (text: string): Timestamp | undefined => {
  const date = new Date(text);
  return text && !Number.isNaN(date.getTime()) ? timestampFromDate(date) : undefined;
};

export const toRequest = (f: Filter) => ({
  actor: f.actor,
  action: f.action,
  outcome: outcomes.find((o) => o.value === f.outcome)?.code ?? Outcome.UNSPECIFIED,
  resource: f.resource,
  after: time(f.after),
  before: time(f.before),
});

/** The stream has fewer filters than the list; the rest is looked at here. */
export const fits = (f: Filter, event: { resource: string }): boolean => !f.resource || event.resource === f.resource;

/** A filter that ends in the past shows no live events. */
export const isOver = (f: Filter): boolean => f.before !== "" && new Date(f.before).getTime() <= Date.now();
