import { compactVerify } from "jose";
import type { AuthorizeOptions, Tollgate } from "../client.js";
import { kindOf } from "../credential.js";
import { newError } from "../errors.js";
import { Generations } from "../generations.js";
import { cut, maxTokenTTL } from "../token.js";
import type { AuthorizeRequest, CallOptions, Decision, Principal, Reason, Verification } from "../types.js";
import { type Claims, claimsOf, headerOf } from "./claims.js";
import { Feed } from "./feed.js";
import { Keyring, keySetMaxAge } from "./keyring.js";
import { Reports, refusal } from "./report.js";

/** Which access tokens a {@link Verifier} accepts, and how old what it knows may get. */
export interface VerifierOptions {
  /** The server's --issuer. */
  issuer: string;
  /** That of this service's account or, when that has none, the server's own (--audience). Tokens for others are refused. */
  audience: string;
  /**
   * How long in ms access tokens live (--access-token-ttl), which is how long a revocation
   * must be remembered: 24 h unless given, the server's maximum. An older token has
   * expired, whatever its claims say.
   */
  accessTokenTtlMs?: number | undefined;
  /**
   * How long ago in ms the feed of revocations may have been heard last: 3000 unless given,
   * and more than 1000, because Tollgate sends a message every second. A revoked token may
   * pass for so long after the connection is lost.
   */
  feedBoundMs?: number | undefined;
  /** Fails while the feed is older than that. Unless true, Tollgate is asked about each token then. */
  failClosed?: boolean | undefined;
  /**
   * How old in ms the public keys may get while they cannot be fetched: 1 h unless given,
   * at least 5 min. No token is verified after that.
   */
  staleKeysMs?: number | undefined;
}

/** Tokens that are remembered, so that their signatures are checked once. */
const maxTokens = 10_000;

/**
 * Verifies access tokens in this process, without the network when warm: it keeps
 * Tollgate's public keys and follows its feed of revocations from now on, for which the
 * service needs the permission tollgate:verify. Make one, keep it, and close it.
 */
export class Verifier {
  readonly #gate: Tollgate;
  readonly #issuer: string;
  readonly #audience: string;
  readonly #ttlMs: number;
  readonly #failClosed: boolean;
  readonly #closed = new AbortController();
  readonly #keys: Keyring;
  readonly #feed: Feed;
  readonly #reports: Reports;
  readonly #tokens = new Generations<string, Claims>(maxTokens);

  constructor(gate: Tollgate, options: VerifierOptions) {
    const { issuer, audience, accessTokenTtlMs = maxTokenTTL, feedBoundMs = 3000, staleKeysMs = 3_600_000 } = options;
    check(
      issuer !== "" && audience !== "" && typeof issuer === "string" && typeof audience === "string",
      "a verifier needs the issuer and the audience of the tokens",
    );
    check(accessTokenTtlMs >= 1000 && accessTokenTtlMs <= maxTokenTTL, "accessTokenTtlMs must be from 1000 to 24 h");
    check(feedBoundMs > 1000 && feedBoundMs < 2 ** 31, "feedBoundMs must be more than 1000");
    check(staleKeysMs >= keySetMaxAge, "staleKeysMs must be at least 5 min");
    const { url, fetch, timeoutMs, now, log, feed } = gate.internals;
    const { signal } = this.#closed;
    this.#gate = gate;
    this.#issuer = issuer;
    this.#audience = audience;
    this.#ttlMs = accessTokenTtlMs;
    this.#failClosed = options.failClosed ?? false;
    this.#keys = new Keyring({ url, fetch, timeoutMs, now, staleMs: staleKeysMs, signal });
    this.#feed = new Feed({ client: feed, keys: this.#keys, boundMs: feedBoundMs, ttlMs: accessTokenTtlMs, now, log, signal });
    this.#reports = new Reports(gate);
    void this.#keys.run();
    void this.#feed.run();
  }

  /** Ends the connections. Every call fails from then on. */
  close(): void {
    this.#closed.abort();
  }

  /**
   * Returns when the verifier has the keys and every revocation up to this revision of the
   * change log, the one in the answer of the call that revoked something; without one,
   * when it is warm.
   */
  async ready(revision = 0n): Promise<void> {
    const { signal } = this.#closed;
    if (!(await this.#feed.wait(revision, signal)) || !(await this.#keys.wait(signal))) {
      throw closed();
    }
  }

  /**
   * Says whether an access token is good now and whose it is, as {@link Tollgate.verify}
   * does. The name, the kind and the roles of the principal stay empty, because a token
   * does not hold them; what the caller may do is decided by Tollgate.
   *
   * While the feed of revocations is lost, it asks Tollgate about tokens that are
   * otherwise good, or fails. It always asks about an API key. A bad token is an answer,
   * not an error.
   */
  async verify(token: string, options: CallOptions = {}): Promise<Verification> {
    return (await this.#verify(token)) ?? this.#gate.verify(token, options);
  }

  /**
   * Decides about a call: by itself when any good credential will do, where a bad one is
   * reported to Tollgate at a bounded rate, and else as {@link Tollgate.authorize} does.
   */
  async authorize(request: AuthorizeRequest, options: AuthorizeOptions = {}): Promise<Decision> {
    if (!request.authenticated || request.userId) {
      return this.#gate.authorize(request, options);
    }
    const credential = request.credential ?? "";
    if (credential === "") {
      return refusal("CREDENTIAL_MISSING"); // no guess to report
    }
    if (!kindOf(credential)) {
      return this.#reports.report(request, "CREDENTIAL_INVALID");
    }
    const found = await this.#verify(credential);
    if (!found) {
      return this.#gate.authorize(request, options);
    }
    if (found.active) {
      return { ...refusal("OK"), allowed: true, principal: found.principal, revision: found.revision };
    }
    return found.reason === "PASSWORD_CHANGE_REQUIRED" ? refusal(found.reason) : this.#reports.report(request, found.reason);
  }

  /** @internal Says why a credential that was good is so no more; "OK" when it still is, or when that is not known. */
  async recheck(credential: string, principal: Principal | undefined): Promise<Reason> {
    if (kindOf(credential) === "accessToken") {
      const found = await this.#verify(credential).catch(() => undefined);
      return found?.reason ?? "OK";
    }
    const { userId = "", apiKeyId = "" } = principal ?? {};
    return this.#feed.look({ userId, apiKeyId, sessionId: "", tokenId: "" })?.reason ?? "OK";
  }

  /** @internal Reports a credential that was refused here; see {@link Reports.report}. */
  report(request: AuthorizeRequest, reason: Reason): Promise<Decision> {
    return this.#reports.report(request, reason);
  }

  /** @internal Returns at the next message of the feed. */
  news(signal: AbortSignal): Promise<boolean> {
    return this.#feed.next(signal);
  }

  /** @internal */
  get internals() {
    return this.#gate.internals;
  }

  /** Returns what this process knows about a token; undefined when it must ask Tollgate. */
  async #verify(token: string): Promise<Verification | undefined> {
    this.#open();
    if (kindOf(token) !== "accessToken") {
      return undefined;
    }
    const claims = await this.#claims(token);
    this.#open(); // it may have been closed meanwhile
    if (!claims) {
      return inactive("CREDENTIAL_INVALID");
    }
    if (claims.audience !== this.#audience) {
      return inactive("WRONG_AUDIENCE");
    }
    if (claims.expires <= this.internals.now()) {
      return inactive("CREDENTIAL_EXPIRED");
    }
    const looked = this.#feed.look(claims);
    if (!looked) {
      if (this.#failClosed) {
        throw newError("the feed of revocations is lost", { code: "unavailable" });
      }
      return undefined;
    }
    if (looked.reason !== "OK" || claims.passwordChange) {
      return inactive(looked.reason !== "OK" ? looked.reason : "PASSWORD_CHANGE_REQUIRED", looked.revision);
    }
    return { active: true, reason: "OK", principal: principalOf(claims), revision: looked.revision };
  }

  /** Returns the token's claims when all but its audience and its time is good. */
  async #claims(token: string): Promise<Claims | undefined> {
    const known = this.#tokens.get(token);
    if (known && this.#keys.holds(known.key)) {
      return known;
    }
    const parts = cut(token);
    const header = parts && headerOf(parts);
    if (!header) {
      return undefined;
    }
    const key = await this.#keys.find(header.id);
    if (!key || key.algorithm !== header.algorithm) {
      return undefined;
    }
    if (known?.key === key) {
      return known;
    }
    try {
      await compactVerify(token, key.public, { algorithms: [key.algorithm] });
    } catch {
      return undefined;
    }
    const now = this.internals.now();
    const claims = claimsOf(parts, key, this.#issuer, this.#ttlMs, now);
    if (claims && now < claims.expires && claims.audience === this.#audience) {
      this.#tokens.set(token, claims);
    }
    return claims;
  }

  #open(): void {
    if (this.#closed.signal.aborted) {
      throw closed();
    }
  }
}

const closed = () => newError("the verifier was closed", { code: "unavailable" });

const inactive = (reason: Reason, revision = 0n): Verification => ({ active: false, reason, principal: undefined, revision });

const principalOf = (c: Claims): Principal => ({
  userId: c.userId,
  username: "",
  service: false,
  roles: [],
  sessionId: c.sessionId,
  apiKeyId: c.apiKeyId,
  scopes: [...c.scopes],
  expiresAt: new Date(c.expires),
  audience: c.audience,
  amr: [...c.amr],
  authTime: c.authTime === undefined ? undefined : new Date(c.authTime),
});

function check(good: boolean, message: string): void {
  if (!good) {
    throw new TypeError(`tollgate: ${message}`);
  }
}
