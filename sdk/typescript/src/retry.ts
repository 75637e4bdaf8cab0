import { type DescMessage, isMessage, type MessageShape } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { isBroken, toError } from "./errors.js";
import { VerifyRequestSchema } from "./gen/tollgate/v1/auth_pb.js";
import { CheckLimitRequestSchema } from "./gen/tollgate/v1/limits_pb.js";
import { AuthorizeRequestSchema, BatchAuthorizeRequestSchema } from "./gen/tollgate/v1/roles_pb.js";
import { sleep } from "./times.js";
import { NotSentError } from "./transport.js";

/**
 * The longest wait in ms before the first retry of a call to which Tollgate did not
 * say when; each further one is twice that.
 */
const firstBackoff = 25;

/**
 * A retry costs one of maxBudget, which each answer gives back retryShare of: in an
 * outage a client makes a tenth more requests, not several times as many.
 */
const maxBudget = 10;
const retryShare = 0.1;

/**
 * How long in ms after its first try a call is made again under its idempotency key:
 * Tollgate knows the key for 10 s.
 */
const keyLasts = 8000;

/** Repeats unary calls that failed, where that is safe. */
export function retries(most: number): Interceptor {
  let spent = 0;
  const take = () => {
    if (spent > maxBudget - 1) {
      return false;
    }
    spent++;
    return true;
  };
  return (next) => async (req) => {
    if (req.stream || most === 0) {
      return next(req);
    }
    const began = performance.now();
    const keyed = isKeyed(req.message);
    const timeout = Number(req.header.get("connect-timeout-ms") ?? Infinity);
    const again = (thrown: unknown) => {
      if (req.signal.aborted || !repeatable(req.method.idempotency, req.message, thrown)) {
        return undefined;
      }
      return toError(thrown).retryAfterMs ?? 0;
    };
    for (let tried = 0; ; tried++) {
      try {
        const res = await next(req);
        spent = Math.max(0, spent - retryShare);
        return res;
      } catch (thrown) {
        const least = tried < most ? again(thrown) : undefined;
        if (least === undefined) {
          throw thrown;
        }
        const wait = least + Math.random() * firstBackoff * 2 ** tried;
        const end = performance.now() - began + wait;
        if (end >= timeout || (keyed && end > keyLasts) || !take() || !(await sleep(wait, req.signal))) {
          throw thrown;
        }
      }
    }
  };
}

/**
 * Says whether a call that failed may be made again: Tollgate says that it did
 * nothing, was surely not reached, or may do the same again without doing more.
 */
function repeatable(idempotency: MethodOptions_IdempotencyLevel, message: unknown, thrown: unknown): boolean {
  const failed = ConnectError.from(thrown);
  if (isBroken(failed)) {
    return idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS || isRepeatable(message);
  }
  if (failed.code !== Code.Unavailable) {
    return false;
  }
  const { reason, retryAfterMs } = toError(failed);
  if (reason === "OVERLOADED" || reason === "DRAINING") {
    return (retryAfterMs ?? 0) > 0;
  }
  return failed.cause instanceof NotSentError || idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS || isRepeatable(message);
}

const is = <D extends DescMessage>(message: unknown, desc: D): message is MessageShape<D> => isMessage(message, desc);

/**
 * Says whether Tollgate counts a message once however often it comes. A refusal is
 * recorded each time.
 */
function isRepeatable(message: unknown): boolean {
  if (is(message, AuthorizeRequestSchema)) {
    return message.recheck || message.idempotencyKey !== "";
  }
  if (is(message, CheckLimitRequestSchema)) {
    return message.peek || message.idempotencyKey !== "";
  }
  if (is(message, BatchAuthorizeRequestSchema)) {
    return message.requests.every(isRepeatable);
  }
  return is(message, VerifyRequestSchema);
}

/** Says whether a message has calls that count once by their key. */
function isKeyed(message: unknown): boolean {
  if (is(message, AuthorizeRequestSchema) || is(message, CheckLimitRequestSchema)) {
    return message.idempotencyKey !== "";
  }
  return is(message, BatchAuthorizeRequestSchema) && message.requests.some(isKeyed);
}

/**
 * Returns a function that gives each call that counts a name of its own, so that it
 * does not count again when it is made again.
 */
export function callKeys(): () => string {
  // Made at the first call: Workers give no random numbers before.
  let prefix = "";
  let last = 0;
  return () => {
    prefix ||= `${crypto.randomUUID()}.`;
    return prefix + (++last).toString(36);
  };
}
