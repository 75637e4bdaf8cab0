import { kindOf } from "./credential.js";
import { type TollgateError, UnavailableError } from "./errors.js";
import { Generations } from "./generations.js";
import type { Deadline } from "./times.js";
import { cut, periodOf } from "./token.js";
import type { AuthorizeRequest, Decision } from "./types.js";

/**
 * What becomes of a call that Tollgate does not answer about, an UnavailableError; every
 * other error refuses the call.
 *
 * "deny" is the default: there is an error, and the call must not go ahead. "allow"
 * allows the call with the reason UNAVAILABLE and without a principal: nobody has
 * verified the credential, looked for a revocation or a permission, or counted the call.
 * A function decides by itself, in place of "allow".
 *
 * Whoever can cut this service off from Tollgate, overload either, or wait for an
 * outage, then gets in with anything that looks like a credential. Choose it only for
 * what may be public, and keep everything else closed.
 *
 * It never allows a call without a credential, with one that is malformed, has expired
 * by its own word or was refused by Tollgate a short while ago, a call that Tollgate
 * refused and could not record, one with a minRevision, and one that its own signal
 * ended. With a timeout of less than a second, slowness alone allows nothing.
 */
export type OnUnavailable = "deny" | "allow" | ((error: UnavailableError, request: AuthorizeRequest) => Decision);

/**
 * How long in ms Tollgate tries to record a refusal before it says that it cannot: a
 * call that it has refused does not run out of time first.
 */
const maxRecording = 1000;

/**
 * The reasons with which Tollgate cannot have decided. It also fails when it has refused
 * a call and cannot record that, which a flood of calls that are refused can bring about.
 */
const undecided = new Set(["", "DEADLINE_EXCEEDED", "DEPENDENCY_DOWN", "OVERLOADED", "STARTING", "DRAINING"]);

const refusals = new Set([
  "CREDENTIAL_INVALID",
  "CREDENTIAL_EXPIRED",
  "CREDENTIAL_REVOKED",
  "USER_DISABLED",
  "USER_UNKNOWN",
  "WRONG_AUDIENCE",
]);

/** Decides about calls that Tollgate does not answer about. */
export class Failures {
  readonly #refused = new Generations<string, true>(20_000);
  readonly #mode: OnUnavailable;
  readonly #timeoutMs: number;
  readonly #now: () => number;

  constructor(mode: OnUnavailable, timeoutMs: number, now: () => number) {
    this.#mode = mode;
    this.#timeoutMs = timeoutMs;
    this.#now = now;
  }

  /** Returns the decision about a call that failed, or throws its error. */
  decide(r: AuthorizeRequest, error: TollgateError, deadline: Deadline, mode = this.#mode): Decision {
    if (mode === "deny" || !(error instanceof UnavailableError) || !this.#mayOpen(r, error, deadline) || this.#knownBad(r)) {
      throw error;
    }
    const allowed = {
      allowed: true,
      reason: "UNAVAILABLE",
      principal: undefined,
      retryAfterMs: undefined,
      limits: [],
      revision: 0n,
      grant: "",
    };
    return mode === "allow" ? allowed : mode(error, r);
  }

  /**
   * Says whether a failure is Tollgate's, and not one that the caller can bring about:
   * with a signal that ends early, or a revision that does not exist.
   */
  #mayOpen(r: AuthorizeRequest, error: UnavailableError, deadline: Deadline): boolean {
    return (
      undecided.has(error.reason) &&
      !deadline.canceled() &&
      !r.minRevision &&
      (error.code !== "deadline_exceeded" || this.#timeoutMs >= maxRecording)
    );
  }

  /** Says whether a call's credential is not good, as far as this process knows. */
  #knownBad(r: AuthorizeRequest): boolean {
    if (r.userId) {
      return false;
    }
    const credential = r.credential ?? "";
    const kind = kindOf(credential);
    return kind === undefined || this.#refused.has(credential) || (kind === "accessToken" && !this.#mayBeGood(credential));
  }

  /** Says whether an access token is one by its form, and has not expired. */
  #mayBeGood(token: string): boolean {
    const now = this.#now();
    const parts = cut(token);
    const period = parts && periodOf(parts.payload, now);
    return period !== undefined && now < period.expires;
  }

  /** Remembers a credential that Tollgate refused, and forgets one that is good again. */
  learn(r: AuthorizeRequest, d: Decision, mode = this.#mode): void {
    if (mode === "deny" || !r.credential || d.reason === "LIMITED") {
      return;
    }
    if (refusals.has(d.reason)) {
      this.#refused.set(r.credential, true);
    } else {
      this.#refused.delete(r.credential);
    }
  }
}
