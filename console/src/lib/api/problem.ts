import { fromBinary } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@gen/google/rpc/error_details_pb.js";

/**
 * What went wrong with a call, as the server's error details tell it. It is a ConnectError,
 * so that Connect passes on what the transport's interceptor throws.
 */
export class Problem extends ConnectError {
  constructor(
    message: string,
    code: Code,
    /** REASON_ without its prefix: "PERMISSION_MISSING". */
    readonly reason: string,
    readonly requestId = "",
    /** Field name in JSON, as in "limits[0].rate", to what is wrong with it. */
    readonly violations: ReadonlyMap<string, string> = new Map(),
    /** Milliseconds to wait; undefined: not known. */
    readonly retryAfter?: number,
  ) {
    super(message, code);
    this.message = message;
  }

  // ConnectError's own takes every ConnectError for an instance of a subclass.
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof Error && Object.prototype.isPrototypeOf.call(Problem.prototype, value);
  }

  get denied() {
    return this.code === Code.PermissionDenied;
  }

  /** The permission that a refused caller lacks, where the server names one. */
  get permission(): string {
    return /needs the permission ([a-z0-9._:*-]+?),? /.exec(this.message)?.[1] ?? "";
  }

  /** The call takes a newer or better sign-in (RFC 9470), not another token. */
  get stepUp() {
    return this.reason === "SECOND_FACTOR_REQUIRED" || this.reason === "SIGN_IN_REQUIRED";
  }
}

/** A message of google.rpc in an error. */
interface Detail {
  type: string;
  value: Uint8Array;
}

/** Makes the one kind of error that screens show. */
export function problem(cause: unknown): Problem {
  if (cause instanceof Problem) return cause;
  const error = ConnectError.from(cause);
  const details = error.details.filter((d): d is Detail => "type" in d && "value" in d && d.value instanceof Uint8Array);
  if (error.code === Code.Unknown || (error.code === Code.Unavailable && details.length === 0)) return unreachable();
  return fromDetails(error.code, error.rawMessage, details);
}

export const unreachable = () =>
  new Problem("The server does not answer. Check the connection and try again.", Code.Unavailable, "UNREACHABLE");

/** Reads the JSON of an error, the same shape from every handler of the server. */
export function fromWire(status: number, body: unknown): Problem {
  const wire = object(body);
  const code = codes[text(wire.code)] ?? (status === 401 ? Code.Unauthenticated : Code.Unavailable);
  const details: Detail[] = [];
  for (const detail of Array.isArray(wire.details) ? wire.details.map(object) : []) {
    try {
      details.push({ type: text(detail.type), value: base64Decode(text(detail.value)) });
    } catch {
      // Left out: not what the server sends.
    }
  }
  return fromDetails(code, text(wire.message) || `The server answered with status ${status}.`, details);
}

function fromDetails(code: Code, message: string, details: Detail[]): Problem {
  let reason = "";
  let requestId = "";
  let retryAfter: number | undefined;
  const violations = new Map<string, string>();
  for (const { type, value } of details) {
    switch (type) {
      case ErrorInfoSchema.typeName: {
        const info = fromBinary(ErrorInfoSchema, value);
        reason = info.reason;
        requestId = info.metadata.request_id ?? "";
        break;
      }
      case RetryInfoSchema.typeName: {
        const wait = fromBinary(RetryInfoSchema, value).retryDelay;
        if (wait) retryAfter = Number(wait.seconds) * 1000 + wait.nanos / 1e6;
        break;
      }
      case BadRequestSchema.typeName:
        for (const { field, description } of fromBinary(BadRequestSchema, value).fieldViolations) violations.set(field, description);
    }
  }
  return new Problem(message, code, reason, requestId, violations, retryAfter);
}

type Json = Record<string, unknown>;

const object = (value: unknown): Json => (value !== null && typeof value === "object" ? (value as Json) : {});
const text = (value: unknown): string => (typeof value === "string" ? value : "");

const codes: Record<string, Code> = {
  canceled: Code.Canceled,
  unknown: Code.Unknown,
  invalid_argument: Code.InvalidArgument,
  deadline_exceeded: Code.DeadlineExceeded,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  failed_precondition: Code.FailedPrecondition,
  aborted: Code.Aborted,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
  unavailable: Code.Unavailable,
  unauthenticated: Code.Unauthenticated,
};
