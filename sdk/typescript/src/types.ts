/** Why a decision came out as it did. A newer Tollgate may give others. */
export type Reason =
  | "OK"
  | "CREDENTIAL_MISSING"
  | "CREDENTIAL_INVALID"
  | "CREDENTIAL_EXPIRED"
  | "CREDENTIAL_REVOKED"
  | "USER_DISABLED"
  | "USER_UNKNOWN"
  | "LIMITED"
  | "PERMISSION_MISSING"
  | "SCOPE_MISSING"
  | "PASSWORD_CHANGE_REQUIRED"
  | "WRONG_AUDIENCE"
  | "SECOND_FACTOR_REQUIRED"
  | "SIGN_IN_REQUIRED"
  | "SELF_ONLY"
  | "DENIED_BY_GRANT"
  | "CONDITION_FALSE"
  | "CONDITION_FAILED"
  /** Nobody decided: see `onUnavailable`. */
  | "UNAVAILABLE"
  | (string & {});

/** The user or service that a credential belongs to. */
export interface Principal {
  readonly userId: string;
  readonly username: string;
  /** A program rather than a person. */
  readonly service: boolean;
  /** The roles in force at the decision, sorted: for showing. Decide by permissions. */
  readonly roles: readonly string[];
  /** Set for an access token of a session. */
  readonly sessionId: string;
  /** Set for an API key. */
  readonly apiKeyId: string;
  /** What an API key is narrowed to; empty: not narrowed. */
  readonly scopes: readonly string[];
  /** When the credential ends; undefined: never. */
  readonly expiresAt: Date | undefined;
  /** The service that the access token is for (RFC 8707); empty for an API key. */
  readonly audience: string;
  /** How the user signed in (RFC 8176): "pwd", "otp", "mfa"; empty for an API key. */
  readonly amr: readonly string[];
  /** When the user signed in; undefined for an API key. */
  readonly authTime: Date | undefined;
}

/** The answer about a credential. */
export interface Verification {
  /** The credential is good now. */
  readonly active: boolean;
  readonly reason: Reason;
  /** Set when the credential is good. */
  readonly principal: Principal | undefined;
  /** The answer is at least as new as this. */
  readonly revision: bigint;
}

/** A value that JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** A call to decide about, without its caller. */
export interface Call {
  /** What the call needs, without wildcards: "orders:read". */
  permission?: string | undefined;
  /** Permissions of which one suffices: at most 16, instead of `permission`. */
  anyOf?: readonly string[] | undefined;
  /** Permissions that are all needed: at most 16, instead of `permission`. */
  allOf?: readonly string[] | undefined;
  /**
   * Accepts any good credential; `permission` is then only the name that limits match,
   * "authenticated" when it is not given. It counts, and records bad credentials.
   */
  authenticated?: boolean | undefined;
  /**
   * The id of the user that the call is about: a person who is signed in as this user
   * needs no permission. API keys do.
   */
  self?: string | undefined;
  /** Lets only the person who is signed in as `self` pass. */
  selfOnly?: boolean | undefined;
  /** What the call is about: "orders/42". It is cut after 256 bytes. */
  resource?: string | undefined;
  /** What conditions read of the resource: at most 8 KiB. */
  resourceAttributes?: { readonly [name: string]: Json } | undefined;
  /** What conditions read of the action: at most 8 KiB. */
  actionProperties?: { readonly [name: string]: Json } | undefined;
  /**
   * What custom limits count by and conditions read: {tenant: "acme"}. At most 32
   * entries, keys up to 64 and values up to 256 characters.
   */
  context?: { readonly [name: string]: string } | undefined;
  /** The caller's address; without one, limits per IP are left out. */
  ip?: string | undefined;
  /** For the audit log. */
  userAgent?: string | undefined;
  /** For the audit log. */
  requestId?: string | undefined;
  /** How much the call counts against limits; 1 unless given. */
  cost?: number | undefined;
  /** The call was allowed before and goes on: limits do not count it again. */
  recheck?: boolean | undefined;
  /** Asks for a decision that takes the write with this revision into account. */
  minRevision?: bigint | undefined;
}

/** A call to decide about. */
export interface AuthorizeRequest extends Call {
  /**
   * What the caller presented: an access token or an API key. Without one, and without
   * a `userId`, the call counts against the limits of `ip` and is refused.
   */
  credential?: string | undefined;
  /** For a caller whom this service has authenticated by itself. */
  userId?: string | undefined;
}

/** A decision. Check `allowed`: a refusal is an answer, not an error. */
export interface Decision {
  readonly allowed: boolean;
  readonly reason: Reason;
  /** Set when the credential is good; undefined with the reason UNAVAILABLE. */
  readonly principal: Principal | undefined;
  /** With the reason LIMITED, unless waiting never helps. */
  readonly retryAfterMs: number | undefined;
  /** Those that counted the call, the most restrictive first. */
  readonly limits: readonly LimitStatus[];
  /** The decision is at least as new as this. */
  readonly revision: bigint;
  /** The grant that decided, where one with a condition or a deny did. */
  readonly grant: string;
}

/** How much of one limit a caller has used. */
export interface LimitStatus {
  readonly name: string;
  /** Calls at once when nothing is used. */
  readonly limit: number;
  /** Calls that would pass right now. */
  readonly remaining: number;
  /** Until nothing is used any more. */
  readonly resetMs: number;
  /** The limit refused this call, or would have. */
  readonly exceeded: boolean;
  /** The limit counts and never refuses. */
  readonly shadow: boolean;
}

/** The answer of checkLimit. A refusal is an answer, not an error. */
export interface LimitDecision {
  readonly allowed: boolean;
  readonly status: LimitStatus;
  /** When refused, unless waiting never helps. */
  readonly retryAfterMs: number | undefined;
}

/** An entry of the audit log. */
export interface AuditEvent {
  /** Who did it. */
  actor?: Pick<Principal, "userId" | "username" | "sessionId" | "apiKeyId"> | undefined;
  /** In your own words, with a dot: "order.cancel". */
  action: string;
  outcome: "SUCCESS" | "DENIED" | "FAILURE";
  /** Why, for other outcomes than SUCCESS. */
  reason?: string | undefined;
  /** What it was done to: "orders/42". */
  resource?: string | undefined;
  ip?: string | undefined;
  userAgent?: string | undefined;
  requestId?: string | undefined;
  /** Further facts; never a secret. */
  details?: { readonly [name: string]: string } | undefined;
}

/** One grant that was looked at. */
export interface GrantTrace {
  readonly role: string;
  /** The role that the grant stands in: the same, or one that it inherits. */
  readonly from: string;
  readonly permission: string;
  /** When; empty: always. */
  readonly condition: string;
  readonly effect: "ALLOW" | "DENY" | (string & {});
  readonly verdict: "MATCHED" | "NO_MATCH" | "CONDITION_FALSE" | "CONDITION_ERROR" | "DENY" | (string & {});
  /** How the condition failed. */
  readonly detail: string;
  /** What the condition read, as JSON, without what sounds secret. */
  readonly read: { readonly [name: string]: string };
}

/** A decision and how it came about. */
export interface Explanation {
  readonly allowed: boolean;
  readonly reason: Reason;
  readonly principal: Principal | undefined;
  readonly grants: readonly GrantTrace[];
  /** There are more grants, all about other calls. */
  readonly truncated: boolean;
  readonly limits: readonly LimitStatus[];
  readonly revision: bigint;
}

/** Bounds one call. */
export interface CallOptions {
  /** Ends the call. */
  signal?: AbortSignal | undefined;
}
