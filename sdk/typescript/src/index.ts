export { type AuthorizeOptions, Bound, Tollgate } from "./client.js";
export {
  InvalidArgumentError,
  PermissionDeniedError,
  RateLimitedError,
  TollgateError,
  toError,
  UnauthenticatedError,
  UnavailableError,
  type Violation,
} from "./errors.js";
export type { OnUnavailable } from "./failure.js";
export type { TollgateOptions } from "./options.js";
export type { CredentialSource } from "./transport.js";
export type * from "./types.js";
