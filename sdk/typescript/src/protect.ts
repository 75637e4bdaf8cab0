import type { Tollgate } from "./client.js";
import { bearer } from "./credential.js";
import { toError } from "./errors.js";
import { hungUp, limitHeaders, type Refusal, refusalOf, undecided } from "./refusal.js";
import type { AuthorizeRequest, Decision, Principal } from "./types.js";
import type { Verifier } from "./verifier/verifier.js";

/**
 * What decides: a {@link Tollgate}, or a Verifier, which answers by itself where any
 * good credential will do, and has its Tollgate decide the rest.
 */
export type Gate = Tollgate | Verifier;

/** What a request is about, beside what its HTTP request says. */
export type Described = Partial<AuthorizeRequest>;

/** The caller of a request that may go on. */
export interface Caller {
  /** Undefined when the call was let through without a decision: see `onUnavailable`. */
  readonly principal: Principal | undefined;
  readonly decision: Decision;
}

/** What a middleware reads of a request. */
export interface Incoming {
  /** The Authorization fields, each by itself. */
  readonly authorization: readonly string[];
  readonly header: (name: string) => string | undefined;
  /** All fields; made only when the option clientIp wants them. */
  readonly headers: () => Headers;
  /** The address of the peer. */
  readonly remote?: string | undefined;
  /** The path as it was sent; it is recorded as the resource. */
  readonly path: string;
  readonly signal?: AbortSignal | undefined;
}

export type Outcome = { readonly refusal: Refusal } | (Caller & { readonly refusal?: undefined; readonly headers: Record<string, string> });

/** What a call needs: a permission, or any good credential. */
export function rule(permission: string): Described {
  if (!permission) {
    throw new TypeError("tollgate: protect needs a permission");
  }
  return { permission };
}

export const anyCredential: Described = { authenticated: true };

/** Describes a request to Tollgate; `more` wins. */
export function requestOf(gate: Gate, incoming: Incoming, needs: Described, more: Described = {}): AuthorizeRequest {
  const { clientIp } = gate.internals;
  return {
    credential: bearer(incoming.authorization),
    resource: decoded(incoming.path),
    ip: clientIp ? clientIp(incoming.remote, incoming.headers()) : incoming.remote,
    userAgent: incoming.header("user-agent"),
    requestId: incoming.header("x-request-id"),
    ...needs,
    ...more,
  };
}

/** Decides about a request, and says how to answer one that may not go on. */
export async function decide(gate: Gate, request: AuthorizeRequest, signal?: AbortSignal): Promise<Outcome> {
  let decision: Decision;
  try {
    decision = await decisionAbout(gate, request, signal);
  } catch (thrown) {
    return { refusal: undecidedBy(gate, thrown, signal) };
  }
  return decision.allowed === true
    ? { principal: decision.principal, decision, headers: limitHeaders(decision.limits) }
    : { refusal: refusalOf(decision, named(request)) };
}

/** Returns the answer when there is no decision; the cause is for the log only. */
export function undecidedBy(gate: Gate, thrown: unknown, signal?: AbortSignal): Refusal {
  if (signal?.aborted) {
    return hungUp();
  }
  const error = toError(thrown);
  gate.internals.log("tollgate: a call was refused because it could not be decided", error);
  return undecided(error.retryAfterMs);
}

export async function decisionAbout(gate: Gate, request: AuthorizeRequest, signal?: AbortSignal): Promise<Decision> {
  if (request.authenticated && !request.credential && !request.userId) {
    // No guess to count.
    return {
      allowed: false,
      reason: "CREDENTIAL_MISSING",
      principal: undefined,
      retryAfterMs: undefined,
      limits: [],
      revision: 0n,
      grant: "",
    };
  }
  return gate.authorize(request, { signal });
}

/** What a call needs, for people. */
export function named(r: AuthorizeRequest): string {
  return r.anyOf?.length ? r.anyOf.join(" or ") : r.allOf?.length ? r.allOf.join(" and ") : (r.permission ?? "");
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** Says who calls, in the handlers behind a middleware, by its framework's request. */
export class Callers {
  readonly #callers = new WeakMap<object, Caller>();

  set(request: object, { principal, decision }: Caller): void {
    this.#callers.set(request, { principal, decision });
  }

  get(request: object): Caller | undefined {
    return this.#callers.get(request);
  }
}
