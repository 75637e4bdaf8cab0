import { Code, ConnectError } from "@connectrpc/connect";

/** What went wrong with a call, as the server's error details tell it. */
export class Problem extends Error {
  constructor(
    message: string,
    readonly code: Code,
    /** REASON_ without its prefix: "PERMISSION_MISSING". */
    readonly reason: string,
    readonly requestId = "",
    /** Field name in JSON, as in "limits[0].rate", to what is wrong with it. */
    readonly violations: ReadonlyMap<string, string> = new Map(),
    /** Milliseconds to wait; undefined: not known. */
    readonly retryAfter?: number,
  ) {
    super(message);
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

interface Detail {
  type: string;
  debug?: unknown;
}

type Json = Record<string, unknown>;

const object = (value: unknown): Json => (value !== null && typeof value === "object" ? (value as Json) : {});
const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** Makes the one kind of error that screens show. */
export function problem(cause: unknown): Problem {
  if (cause instanceof Problem) return cause;
  const error = ConnectError.from(cause);
  if (error.code === Code.Unknown || (error.code === Code.Unavailable && error.details.length === 0)) {
    return new Problem("The server does not answer. Check the connection and try again.", Code.Unavailable, "UNREACHABLE");
  }
  return fromDetails(error.code, error.rawMessage, error.details as Detail[]);
}

/** Reads the JSON of an error, the same shape from every handler of the server. */
export function fromWire(status: number, body: unknown): Problem {
  const wire = object(body);
  const code = codes[text(wire.code)] ?? (status === 401 ? Code.Unauthenticated : Code.Unavailable);
  const message = text(wire.message) || `The server answered with status ${status}.`;
  return fromDetails(code, message, Array.isArray(wire.details) ? (wire.details as Detail[]) : []);
}

function fromDetails(code: Code, message: string, details: Detail[]): Problem {
  let reason = "";
  let requestId = "";
  let retryAfter: number | undefined;
  const violations = new Map<string, string>();
  for (const { type, debug } of details) {
    const fields = object(debug);
    switch (type) {
      case "google.rpc.ErrorInfo":
        reason = text(fields.reason);
        requestId = text(object(fields.metadata).request_id);
        break;
      case "google.rpc.RetryInfo":
        retryAfter = Number.parseFloat(text(fields.retryDelay)) * 1000 || undefined;
        break;
      case "google.rpc.BadRequest":
        for (const violation of (fields.fieldViolations as unknown[] | undefined) ?? []) {
          const { field, description } = object(violation);
          violations.set(text(field), text(description));
        }
    }
  }
  return new Problem(message, code, reason, requestId, violations, retryAfter);
}

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
