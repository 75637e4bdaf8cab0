import { create, type DescService, toBinary } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { Batcher } from "./batch.js";
import { costOf, decisionOf, eventOf, explanationOf, principalOf, reasonOf, requestOf, statusOf } from "./convert.js";
import { kindOf } from "./credential.js";
import { incomplete, newError, toError } from "./errors.js";
import { Failures, type OnUnavailable } from "./failure.js";
import { AuditService } from "./gen/tollgate/v1/audit_pb.js";
import { AuthService, VerifyRequestSchema } from "./gen/tollgate/v1/auth_pb.js";
import { LimitsService } from "./gen/tollgate/v1/limits_pb.js";
import { AuthorizeRequestSchema, RolesService, type AuthorizeRequest as WireRequest } from "./gen/tollgate/v1/roles_pb.js";
import { checked, type TollgateOptions } from "./options.js";
import { callKeys, retries } from "./retry.js";
import { deadlineIn, milliseconds } from "./times.js";
import { newTransport } from "./transport.js";
import type { AuditEvent, AuthorizeRequest, Call, CallOptions, Decision, Explanation, LimitDecision, Verification } from "./types.js";

/** How a call to authorize is made. */
export interface AuthorizeOptions extends CallOptions {
  /** What becomes of the call when Tollgate does not answer; that of the client unless given. */
  onUnavailable?: OnUnavailable | undefined;
}

/** Bytes of one request. Tollgate hangs up on a larger one, which would look like an outage. */
const maxMessage = 256 << 10;

/** Asks one Tollgate. Make one and keep it. It makes no call by itself. */
export class Tollgate {
  readonly #options: ReturnType<typeof checked>;
  readonly #transport: Transport;
  readonly #streams: Transport;
  readonly #roles: Client<typeof RolesService>;
  readonly #auth: Client<typeof AuthService>;
  readonly #limits: Client<typeof LimitsService>;
  readonly #audit: Client<typeof AuditService>;
  readonly #batcher: Batcher | undefined;
  readonly #failures: Failures;
  readonly #nextKey: () => string;

  constructor(options: TollgateOptions) {
    const o = checked(options);
    const { url, fetch, credential } = o;
    this.#options = o;
    this.#transport = newTransport({ url, fetch, credential, timeoutMs: o.timeoutMs, interceptors: [retries(o.retries)] });
    this.#streams = newTransport({ url, fetch, credential, timeoutMs: undefined, interceptors: [] });
    this.#roles = this.client(RolesService);
    this.#auth = this.client(AuthService);
    this.#limits = this.client(LimitsService);
    this.#audit = this.client(AuditService);
    this.#failures = new Failures(o.onUnavailable, o.timeoutMs, o.now);
    this.#nextKey = o.retries > 0 ? callKeys() : () => "";
    if (o.batch && o.oneCredential) {
      this.#batcher = new Batcher({
        one: (req, signal, timeoutMs) => this.#roles.authorize(req, { signal, timeoutMs }),
        many: (req, signal, timeoutMs) => this.#roles.batchAuthorize(req, { signal, timeoutMs }),
      });
    }
  }

  /**
   * Decides whether a call may go ahead. Tollgate verifies the credential, counts the
   * call against the limits that apply, checks the permission, and records a refusal. A
   * refusal is an answer: look at `allowed`. It throws a {@link TollgateError} when there
   * is no decision, and then the call must not go ahead.
   *
   * Calls of one tick, and calls that are made while others are under way, share
   * requests, each with its own deadline, decision and error.
   */
  async authorize(request: AuthorizeRequest, { signal, onUnavailable }: AuthorizeOptions = {}): Promise<Decision> {
    const { message, wellFormed } = requestOf(request, request.recheck ? "" : this.#nextKey());
    const size = sizeOf(message);
    const deadline = deadlineIn(this.#options.timeoutMs, signal);
    try {
      const res = this.#batcher
        ? await this.#batcher.authorize(message, size, deadline)
        : await this.#roles.authorize(message, { signal: deadline.signal });
      const d = decisionOf(res, wellFormed);
      this.#failures.learn(request, d, onUnavailable);
      return d;
    } catch (e) {
      return this.#failures.decide(request, toError(e), deadline, onUnavailable);
    } finally {
      deadline.end();
    }
  }

  /**
   * Says whether a credential, an access token or an API key, is good now and whose it
   * is. A bad one is an answer; one that is malformed is answered without a call.
   */
  async verify(credential: string, { signal }: CallOptions = {}): Promise<Verification> {
    const kind = kindOf(credential);
    if (!kind) {
      const reason = credential === "" ? "CREDENTIAL_MISSING" : "CREDENTIAL_INVALID";
      return { active: false, reason, principal: undefined, revision: 0n };
    }
    const req = create(VerifyRequestSchema, { credential: { case: kind, value: credential } });
    const res = await failing(this.#auth.verify(req, until(signal)));
    if (res.active && !res.principal) {
      throw incomplete("the principal");
    }
    return { active: res.active, reason: reasonOf(res.reason), principal: principalOf(res.principal), revision: res.revision };
  }

  /** Counts one call against one limit under a key of your choice. A refusal is an answer. */
  async checkLimit(
    limit: string,
    key: string,
    { cost, peek = false, signal }: CallOptions & { cost?: number | undefined; peek?: boolean | undefined } = {},
  ): Promise<LimitDecision> {
    const req = { limit, key, cost: costOf(cost), peek, idempotencyKey: peek ? "" : this.#nextKey() };
    const res = await failing(this.#limits.checkLimit(req, until(signal)));
    if (!res.status) {
      throw incomplete("the status of the limit");
    }
    return { allowed: res.allowed, status: statusOf(res.status), retryAfterMs: res.retryAfter && milliseconds(res.retryAfter) };
  }

  /**
   * Adds an event to Tollgate's audit log. The event is durable when this returns;
   * otherwise it may or may not have been recorded.
   */
  async recordEvent(event: AuditEvent, { signal }: CallOptions = {}): Promise<void> {
    await failing(this.#audit.recordEvent(eventOf(event), until(signal)));
  }

  /** Adds up to 1,000 events in one commit, in their order. */
  async recordEvents(events: readonly AuditEvent[], { signal }: CallOptions = {}): Promise<void> {
    await failing(this.#audit.recordEvents({ events: events.map(eventOf) }, until(signal)));
  }

  /**
   * Says how a call would be decided: every grant and limit that was looked at. It counts
   * nothing. It takes the permission tollgate:explain.
   */
  async explain(request: AuthorizeRequest, { signal }: CallOptions = {}): Promise<Explanation> {
    const { message } = requestOf(request, "");
    return explanationOf(await failing(this.#roles.explain({ request: message }, until(signal))));
  }

  /** Binds a caller's credential. */
  as(credential: string): Bound {
    return new Bound(this, credential);
  }

  /**
   * Returns the generated client of one of Tollgate's services, from
   * "@tollgate/sdk/gen/…". Its calls carry the credential, and are repeated where that
   * is safe. They throw a ConnectError; `toError` makes a {@link TollgateError} of it.
   */
  client<S extends DescService>(service: S): Client<S> {
    return createClient(service, this.#transport);
  }

  /** @internal For a verifier. */
  get internals() {
    return { ...this.#options, feed: createClient(AuthService, this.#streams) };
  }
}

/** Asks about calls of one caller. */
export class Bound {
  readonly #gate: Tollgate;
  readonly #credential: string;

  constructor(gate: Tollgate, credential: string) {
    this.#gate = gate;
    this.#credential = credential;
  }

  authorize(call: Call, options?: AuthorizeOptions): Promise<Decision> {
    return this.#gate.authorize({ ...call, credential: this.#credential, userId: undefined }, options);
  }

  verify(options?: CallOptions): Promise<Verification> {
    return this.#gate.verify(this.#credential, options);
  }

  explain(call: Call, options?: CallOptions): Promise<Explanation> {
    return this.#gate.explain({ ...call, credential: this.#credential, userId: undefined }, options);
  }
}

const until = (signal: AbortSignal | undefined) => (signal ? { signal } : {});

/** Waits for a call of a generated client, whose errors are ConnectErrors. */
async function failing<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (e) {
    throw toError(e);
  }
}

function sizeOf(message: WireRequest): number {
  let size: number;
  try {
    size = toBinary(AuthorizeRequestSchema, message).length;
  } catch (cause) {
    throw newError(
      "the request cannot be encoded; check the types of its fields",
      { code: "invalid_argument", reason: "INVALID_FIELD" },
      cause,
    );
  }
  if (size > maxMessage) {
    throw newError("the request has more than 256 KiB; shorten the context or the attributes", {
      code: "resource_exhausted",
      reason: "TOO_LARGE",
    });
  }
  return size;
}
