import { create } from "@bufbuild/protobuf";
import { incomplete, incompleteAnswer, newError, TollgateError, toError } from "./errors.js";
import { Reason } from "./gen/tollgate/v1/reason_pb.js";
import {
  type AuthorizeRequest,
  type AuthorizeResponse,
  type BatchAuthorizeRequest,
  BatchAuthorizeRequestSchema,
  type BatchAuthorizeResponse,
  type BatchFailure,
} from "./gen/tollgate/v1/roles_pb.js";
import { RefusedCalls, shareable } from "./share.js";
import { type Deadline, milliseconds } from "./times.js";

/** How many requests are under way before calls gather. */
const freeRequests = 1;
/** How many may be under way when none comes back in maxGather. */
const maxRequests = 32;
/** How long in ms a call waits for others while requests are under way. */
const maxGather = 1;
/**
 * How many calls one request carries (BatchAuthorizeRequest), and how large it may be,
 * of the 256 KiB that Tollgate takes.
 */
const maxBatch = 100;
const maxBatchBytes = 240 << 10;
/** How many calls may wait to be sent. */
const maxWaiting = 10_000;

export interface Asker {
  one(req: AuthorizeRequest, signal: AbortSignal, timeoutMs: number): Promise<AuthorizeResponse>;
  many(req: BatchAuthorizeRequest, signal: AbortSignal, timeoutMs: number): Promise<BatchAuthorizeResponse>;
}

/** A call that waits for others, and then for its answer. */
interface Waiter {
  readonly req: AuthorizeRequest;
  readonly size: number;
  readonly deadline: Deadline;
  readonly since: number;
  batch: Batch | undefined;
  readonly answer: (outcome: Outcome) => void;
}

/** A request with several calls. */
interface Batch {
  present: number; // whose callers have not left
  readonly cancel: () => void;
}

/** The answer about one call; "solo": it has to be asked by itself. */
type Outcome = AuthorizeResponse | TollgateError | "solo";

/**
 * Has concurrent calls share requests. Calls of one tick go out together at its end
 * while few requests are under way. Others gather, and leave together as soon as one of
 * these is answered, when there is a batch full, or after maxGather.
 */
export class Batcher {
  readonly #ask: Asker;
  readonly #refused = new RefusedCalls();
  #waiting: Waiter[] = []; // in the order in which they came
  #sending = 0;
  #tick = false; // the end of this tick sends
  #armed = false; // a timer runs for the first one that waits

  constructor(ask: Asker) {
    this.#ask = ask;
  }

  /** Returns the answer about one call, no later than its deadline. */
  async authorize(req: AuthorizeRequest, size: number, deadline: Deadline): Promise<AuthorizeResponse> {
    const alone = !shareable(req, size) || this.#refused.has(req);
    const res = alone ? await this.#one(req, deadline) : await this.#shared(req, size, deadline);
    this.#refused.learn(req, res);
    return res;
  }

  #one(req: AuthorizeRequest, deadline: Deadline): Promise<AuthorizeResponse> {
    return this.#ask.one(req, deadline.signal, remaining(deadline.at));
  }

  async #shared(req: AuthorizeRequest, size: number, deadline: Deadline): Promise<AuthorizeResponse> {
    if (this.#waiting.length >= maxWaiting) {
      throw tooManyWaiting();
    }
    const outcome = await new Promise<Outcome>((resolve) => {
      const waiter: Waiter = {
        req,
        size,
        deadline,
        since: performance.now(),
        batch: undefined,
        answer: (outcome) => {
          deadline.signal.removeEventListener("abort", leave);
          resolve(outcome);
        },
      };
      const leave = () => {
        this.#leave(waiter);
        resolve(ended(deadline));
      };
      if (deadline.signal.aborted) {
        resolve(ended(deadline));
        return;
      }
      deadline.signal.addEventListener("abort", leave, { once: true });
      this.#waiting.push(waiter);
      this.#enqueued();
    });
    if (outcome === "solo") {
      return this.#one(req, deadline);
    }
    if (outcome instanceof TollgateError) {
      throw outcome;
    }
    return outcome;
  }

  #enqueued(): void {
    if (this.#sending < freeRequests && !this.#tick) {
      this.#tick = true;
      queueMicrotask(() => {
        this.#tick = false;
        if (this.#sending < freeRequests) {
          this.#send();
        }
        this.#arm();
      });
    } else if (this.#waiting.length >= maxBatch && this.#sending < maxRequests) {
      this.#send();
    }
    this.#arm();
  }

  /** Forgets a call whose caller is gone. A request that nobody waits for ends. */
  #leave(waiter: Waiter): void {
    const { batch } = waiter;
    if (!batch) {
      this.#waiting = this.#waiting.filter((w) => w !== waiter);
    } else if (--batch.present === 0) {
      batch.cancel();
    }
  }

  /** Sets the timer of the first one that waits. */
  #arm(): void {
    const [first] = this.#waiting;
    if (this.#armed || this.#tick || !first || this.#sending >= maxRequests) {
      return;
    }
    this.#armed = true;
    setTimeout(
      () => {
        this.#armed = false;
        while (this.#overdue() && this.#sending < maxRequests) {
          this.#send();
        }
        this.#arm();
      },
      Math.max(0, first.since + maxGather - performance.now()),
    );
  }

  #overdue(): boolean {
    const [first] = this.#waiting;
    return first !== undefined && performance.now() - first.since >= maxGather;
  }

  /** Gives the place of a request that has come back to those who wait. */
  #answered(): void {
    this.#sending--;
    if (this.#sending < freeRequests || this.#waiting.length >= maxBatch || this.#overdue()) {
      this.#send();
    }
    this.#arm();
  }

  /** Begins a request with as many of those who wait as it can carry. */
  #send(): void {
    let n = 0;
    for (let size = 0; n < this.#waiting.length && n < maxBatch; n++) {
      const framing = 1 + 4; // a field's number and its length
      size += (this.#waiting[n]?.size ?? 0) + framing;
      if (size > maxBatchBytes && n > 0) {
        break;
      }
    }
    const waiters = this.#waiting.splice(0, n);
    if (waiters.length === 0) {
      return;
    }
    this.#sending++;
    const controller = new AbortController();
    const batch = { present: n, cancel: () => controller.abort() };
    for (const w of waiters) {
      w.batch = batch;
    }
    const [first] = waiters;
    const exchanged =
      n === 1 && first
        ? this.#one(first.req, first.deadline).then(first.answer, (e: unknown) => first.answer(toError(e)))
        : this.#exchange(waiters, controller.signal);
    void exchanged.finally(() => this.#answered());
  }

  /** Sends a batch and gives each caller what is theirs. */
  async #exchange(waiters: Waiter[], signal: AbortSignal): Promise<void> {
    const latest = Math.max(...waiters.map((w) => w.deadline.at));
    const req = create(BatchAuthorizeRequestSchema, { independent: true, requests: waiters.map((w) => w.req) });
    let outcomes: Outcome[];
    try {
      const res = await this.#ask.many(req, signal, remaining(latest));
      if (res.responses.length !== waiters.length) {
        throw incomplete("a decision for each request");
      }
      outcomes = res.responses;
      for (const f of res.failures) {
        outcomes[f.index] = ownOrSolo(failureError(f));
      }
    } catch (e) {
      outcomes = waiters.map(() => ownOrSolo(toError(e)));
    }
    waiters.forEach((w, i) => {
      w.answer(outcomes[i] ?? incomplete("a decision for each request"));
    });
  }
}

const remaining = (at: number) => Math.max(1, Math.ceil(at - performance.now()));

/** Each caller has an error of its own; one that may be the fault of another call is not theirs. */
const ownOrSolo = (e: TollgateError): Outcome => (aboutAll(e) ? newError(e.message, e, e.cause) : "solo");

/**
 * Says whether an error would be that of each call by itself: it is about Tollgate, or
 * this service's own credential. Others may be the fault of one call.
 */
function aboutAll(e: TollgateError): boolean {
  switch (e.code) {
    case "unavailable":
    case "deadline_exceeded":
    case "canceled":
    case "unauthenticated":
    case "permission_denied":
    case "failed_precondition":
      return true;
    case "resource_exhausted":
      return e.reason === "LIMITED";
    default:
      return e.reason === incompleteAnswer;
  }
}

/** The error of one call of a batch. */
const failureError = (f: BatchFailure): TollgateError =>
  newError(f.message, {
    code: f.code,
    reason: Reason[f.reason],
    retryAfterMs: f.retryAfter && milliseconds(f.retryAfter),
  });

/** No UnavailableError: who floods this service must not find calls that fail open. */
const tooManyWaiting = () =>
  newError("too many calls of this process wait for Tollgate; it answers more slowly than they come", {
    code: "resource_exhausted",
    reason: "TOO_MANY_WAITING",
    retryAfterMs: 1000,
  });

const ended = (deadline: Deadline) =>
  deadline.canceled()
    ? newError("the call was canceled", { code: "canceled" })
    : newError("Tollgate did not answer in time", { code: "deadline_exceeded" });
