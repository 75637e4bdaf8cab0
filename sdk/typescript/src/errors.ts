import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { milliseconds } from "./times.js";

/** One thing wrong with one field of a request. */
export interface Violation {
  /** The field's name in JSON: "limits[0].rate". */
  readonly field: string;
  readonly message: string;
}

/** What Tollgate says about a call that failed. */
export interface ErrorFacts {
  /** The code of Connect: "not_found". */
  readonly code: string;
  /** Why, for programs: "LAST_ADMINISTRATOR". Empty when Tollgate did not answer. */
  readonly reason?: string | undefined;
  /** Finds the call in Tollgate's log. */
  readonly requestId?: string | undefined;
  /** When to try again, in ms; undefined when that is not known. */
  readonly retryAfterMs?: number | undefined;
  readonly violations?: readonly Violation[] | undefined;
}

/** The error of every call to Tollgate: there is no decision. */
export class TollgateError extends Error {
  override readonly name: string = "TollgateError";
  readonly code: string;
  readonly reason: string;
  readonly requestId: string;
  readonly retryAfterMs: number | undefined;
  readonly violations: readonly Violation[];

  constructor(message: string, facts: ErrorFacts, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = facts.code;
    this.reason = facts.reason ?? "";
    this.requestId = facts.requestId ?? "";
    this.retryAfterMs = facts.retryAfterMs;
    this.violations = facts.violations ?? [];
  }
}

/** The credential of this service itself is not good. */
export class UnauthenticatedError extends TollgateError {
  override readonly name = "UnauthenticatedError";
}

/** This service itself may not make the call. */
export class PermissionDeniedError extends TollgateError {
  override readonly name = "PermissionDeniedError";
}

/** This service makes more calls than Tollgate lets it. */
export class RateLimitedError extends TollgateError {
  override readonly name = "RateLimitedError";
}

/** Tollgate did not answer in time. The same call may succeed later. */
export class UnavailableError extends TollgateError {
  override readonly name = "UnavailableError";
}

/** The request is wrong. */
export class InvalidArgumentError extends TollgateError {
  override readonly name = "InvalidArgumentError";
  /** The first field that is wrong; empty when it is not about one field. */
  get field(): string {
    return this.violations[0]?.field ?? "";
  }
}

/** Returns an error of the class that its code has. */
export function newError(message: string, facts: ErrorFacts, cause?: unknown): TollgateError {
  switch (facts.code) {
    case "unauthenticated":
      return new UnauthenticatedError(message, facts, cause);
    case "permission_denied":
      return new PermissionDeniedError(message, facts, cause);
    case "resource_exhausted":
      return new RateLimitedError(message, facts, cause);
    case "unavailable":
    case "deadline_exceeded":
      return new UnavailableError(message, facts, cause);
    case "invalid_argument":
      return new InvalidArgumentError(message, facts, cause);
    default:
      return new TollgateError(message, facts, cause);
  }
}

export const invalid = (field: string, message: string): InvalidArgumentError =>
  new InvalidArgumentError(`${field}: ${message}`, {
    code: "invalid_argument",
    reason: "INVALID_FIELD",
    violations: [{ field, message }],
  });

export const incompleteAnswer = "INCOMPLETE_ANSWER";

export const incomplete = (what: string): TollgateError =>
  newError(`the answer lacks ${what}; check that the URL leads to Tollgate`, {
    code: "internal",
    reason: incompleteAnswer,
  });

/** Returns the code's name in Connect: "deadline_exceeded". */
export function codeName(code: Code): string {
  const name: string | undefined = Code[code];
  return name === undefined ? "unknown" : name.replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase();
}

/** Says whether the connection broke while the answer was read. */
export const isBroken = (e: ConnectError): boolean => e.code === Code.Unknown && e.cause instanceof TypeError;

/** Reads the details that Tollgate gives with an error of the generated client. */
export function toError(thrown: unknown): TollgateError {
  if (thrown instanceof TollgateError) {
    return thrown;
  }
  const e = ConnectError.from(thrown);
  if (e.cause instanceof TollgateError) {
    return e.cause;
  }
  const info = e.findDetails(ErrorInfoSchema)[0];
  const retry = e.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const seconds = /^\d{1,9}$/.exec(e.metadata.get("retry-after") ?? "")?.[0];
  return newError(
    e.rawMessage,
    {
      code: isBroken(e) ? "unavailable" : codeName(e.code),
      reason: info?.reason,
      requestId: info?.metadata["request_id"] ?? e.metadata.get("x-request-id") ?? undefined,
      retryAfterMs: retry ? milliseconds(retry) : seconds === undefined ? undefined : Number(seconds) * 1000,
      violations: e
        .findDetails(BadRequestSchema)
        .flatMap((bad) => bad.fieldViolations.map((v) => ({ field: v.field, message: v.description }))),
    },
    e,
  );
}
