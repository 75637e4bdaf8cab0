import { Reason } from "@tollgate/reason_pb.js";
import { Effect, Verdict, type GrantTrace } from "@tollgate/roles_pb.js";

/** Why, as one sentence. */
export function sentence(reason: Reason, who: string, permission: string): string {
  switch (reason) {
    case Reason.OK:
      return `A role of ${who} grants ${permission}.`;
    case Reason.PERMISSION_MISSING:
      return `No role of ${who} grants ${permission}.`;
    case Reason.SCOPE_MISSING:
      return `The API key's scopes leave out ${permission}.`;
    case Reason.DENIED_BY_GRANT:
      return `A role of ${who} denies ${permission}, whatever others grant.`;
    case Reason.CONDITION_FALSE:
      return `A role of ${who} grants ${permission} only under a condition that is not true here.`;
    case Reason.CONDITION_FAILED:
      return `A condition about ${permission} could not be decided, so it grants nothing.`;
    case Reason.LIMITED:
      return `A limit that counts this call is used up.`;
    case Reason.USER_DISABLED:
      return `${who} is disabled.`;
    case Reason.USER_UNKNOWN:
      return "There is no such user.";
    case Reason.PASSWORD_CHANGE_REQUIRED:
      return `${who} must first choose a new password.`;
    case Reason.SECOND_FACTOR_REQUIRED:
      return `This takes a sign-in with a second factor.`;
    default:
      return "";
  }
}

interface Look {
  text: string;
  tone: "ok" | "bad" | "warn" | "plain";
}

/** What came of looking at a grant. */
export function verdict(grant: GrantTrace): Look {
  switch (grant.verdict) {
    case Verdict.MATCHED:
      return { text: "allows", tone: "ok" };
    case Verdict.DENY:
      return { text: "denies", tone: "bad" };
    case Verdict.CONDITION_FALSE:
      return { text: "condition is not true", tone: "warn" };
    case Verdict.CONDITION_ERROR:
      return { text: grant.effect === Effect.DENY ? "condition failed: denies" : "condition failed: allows nothing", tone: "bad" };
    default:
      return { text: "about other calls", tone: "plain" };
  }
}

export interface RoleTrace {
  role: string;
  /** Grants about the call, then those about others. */
  about: GrantTrace[];
  others: GrantTrace[];
}

/** The grants as a tree: by the role that the caller holds, those that matter first. */
export function tree(grants: readonly GrantTrace[]): RoleTrace[] {
  const roles = new Map<string, RoleTrace>();
  for (const grant of grants) {
    const entry = roles.get(grant.role) ?? { role: grant.role, about: [], others: [] };
    (grant.verdict === Verdict.NO_MATCH ? entry.others : entry.about).push(grant);
    roles.set(grant.role, entry);
  }
  return [...roles.values()].sort((a, b) => Number(b.about.length > 0) - Number(a.about.length > 0) || (a.role < b.role ? -1 : 1));
}
