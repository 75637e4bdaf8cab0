import { create, type DescMessage, type MessageShape, toBinary, toJson } from "@bufbuild/protobuf";
import { base64Encode } from "@bufbuild/protobuf/wire";
import { type ErrorInfo, ErrorInfoSchema, type RetryInfo, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Decision, LimitStatus } from "./types.js";

/** The codes of Connect that refusals have, with their HTTP status. */
const statuses = { unauthenticated: 401, permission_denied: 403, resource_exhausted: 429, canceled: 499, unavailable: 503 } as const;

/** The answer to a caller who may not go on. */
export interface Refusal {
  readonly code: keyof typeof statuses;
  readonly status: number;
  readonly message: string;
  readonly headers: Record<string, string>;
  readonly info: ErrorInfo;
  readonly retry: RetryInfo | undefined;
}

/** The challenge for a credential that was given and is not good (RFC 6750 §3.1). */
const badToken = 'Bearer error="invalid_token"';

/** The challenge for a good credential whose sign-in was too weak or is too long ago (RFC 9470 §3). */
const stepUp = 'Bearer error="insufficient_user_authentication"';

const challenges: Record<string, readonly [challenge: string, message: string]> = {
  CREDENTIAL_MISSING: ["Bearer", "send an access token or an API key as Authorization: Bearer"],
  CREDENTIAL_EXPIRED: [badToken, "the credential has expired; refresh it or sign in again"],
  CREDENTIAL_REVOKED: [badToken, "the credential was revoked; sign in again"],
  USER_DISABLED: [badToken, "the user is disabled"],
  CREDENTIAL_INVALID: [badToken, "the credential is not valid; sign in again"],
  USER_UNKNOWN: [badToken, "the credential is not valid; sign in again"],
  WRONG_AUDIENCE: [badToken, "the access token was issued for another service; ask for one with the audience of this one"],
  SECOND_FACTOR_REQUIRED: [stepUp, "sign in again, with a second factor"],
  SIGN_IN_REQUIRED: [stepUp, "the sign-in is too long ago; sign in again"],
};

/** Returns the answer about a decision against a call that needs `permission`. */
export function refusalOf(d: Decision, permission: string): Refusal {
  const challenge = challenges[d.reason];
  if (challenge) {
    return refuse("unauthenticated", d.reason, challenge[1], { "WWW-Authenticate": challenge[0] });
  }
  if (d.reason === "LIMITED") {
    return refuse("resource_exhausted", d.reason, "too many calls", limitHeaders(d.limits), d.retryAfterMs);
  }
  const headers = { "WWW-Authenticate": 'Bearer error="insufficient_scope"', ...limitHeaders(d.limits) };
  return refuse("permission_denied", d.reason, whyNot(d.reason, permission), headers);
}

function whyNot(reason: string, permission: string): string {
  switch (reason) {
    case "PERMISSION_MISSING":
      return `this needs the permission ${permission}, which none of your roles grants`;
    case "SCOPE_MISSING":
      return `this needs the permission ${permission}, which the API key's scopes leave out`;
    case "DENIED_BY_GRANT":
      return `one of your roles denies ${permission} here`;
    case "CONDITION_FALSE":
    case "CONDITION_FAILED":
      return `your roles grant ${permission} only under a condition that is not met here`;
    case "SELF_ONLY":
      return "only the user in question may make this call, signed in as a person";
    case "PASSWORD_CHANGE_REQUIRED":
      return "choose a new password first";
    default:
      return "this call is not allowed";
  }
}

/** Returns the answer when there is no decision. It says nothing of the cause, which may be this service's own credential. */
export const undecided = (retryAfterMs = 0): Refusal =>
  refuse("unavailable", "DEPENDENCY_DOWN", "access cannot be checked right now; try again", {}, Math.max(1000, retryAfterMs));

/** The answer to a caller who has hung up: no one reads it. */
export const hungUp = (): Refusal => refuse("canceled", "", "the call was canceled", {});

/** The answer about an RPC without the option (tollgate.v1.guard). */
export const unguarded = (procedure: string): Refusal =>
  refuse("permission_denied", "NO_GUARD", `${procedure} cannot be called: its service must give it the option (tollgate.v1.guard)`, {});

function refuse(code: Refusal["code"], reason: string, message: string, headers: Record<string, string>, retryAfterMs = 0): Refusal {
  return {
    code,
    status: statuses[code],
    message,
    headers: retryAfterMs > 0 ? { ...headers, "Retry-After": String(seconds(retryAfterMs)) } : headers,
    info: create(ErrorInfoSchema, { reason, domain: "tollgate.dev" }),
    retry:
      retryAfterMs > 0
        ? create(RetryInfoSchema, { retryDelay: { seconds: BigInt(Math.floor(retryAfterMs / 1000)), nanos: (retryAfterMs % 1000) * 1e6 } })
        : undefined,
  };
}

/** Returns the answer's body: the JSON of an error of the Connect protocol. */
export function bodyOf(r: Refusal): string {
  const details = [detail(ErrorInfoSchema, r.info), ...(r.retry ? [detail(RetryInfoSchema, r.retry)] : [])];
  return JSON.stringify({ code: r.code, message: r.message, details });
}

const detail = <D extends DescMessage>(desc: D, message: MessageShape<D>) => ({
  type: desc.typeName,
  value: base64Encode(toBinary(desc, message), "std_raw"),
  debug: toJson(desc, message),
});

/** Returns a plain HTTP answer, whatever the Content-Type of the request is. */
export const responseOf = (r: Refusal): Response =>
  new Response(bodyOf(r), { status: r.status, headers: { ...r.headers, "Content-Type": "application/json" } });

/**
 * Returns the RateLimit fields (draft-ietf-httpapi-ratelimit-headers) about the most
 * restrictive limit that is enforced. A limit's name is [a-z0-9._-], so quotes are all
 * that its structured field needs.
 */
export function limitHeaders(limits: readonly LimitStatus[]): Record<string, string> {
  const l = limits.find((limit) => !limit.shadow);
  return l ? { RateLimit: `"${l.name}";r=${l.remaining};t=${seconds(l.resetMs)}`, "RateLimit-Policy": `"${l.name}";q=${l.limit}` } : {};
}

/** Rounds up, so that no caller comes back too early. */
const seconds = (ms: number) => Math.ceil(ms / 1000);
