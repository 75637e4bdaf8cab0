import { type DescMessage, getOption, hasOption, type MessageShape } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  createContextValues,
  type HandlerContext,
  type Interceptor,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import { watchStream } from "./connect-stream.js";
import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { type Guard, guard as guardOption } from "./gen/tollgate/v1/options_pb.js";
import { type Caller, type Described, decide, type Gate, requestOf } from "./protect.js";
import { type Refusal, unguarded } from "./refusal.js";
import type { AuthorizeRequest } from "./types.js";

export type { Caller, Gate } from "./protect.js";

/** How {@link guard} works. */
export interface GuardOptions {
  /** How old in ms the decision about a stream's caller may get: 30000 unless given. */
  recheckMs?: number | undefined;
}

const callerKey = createContextKey<Caller | undefined>(undefined, { description: "Tollgate's caller" });
const remoteKey = createContextKey<string | undefined>(undefined, { description: "the address of the peer" });

/** Returns the caller in a handler behind {@link guard}; undefined where the RPC is public. */
export const caller = (context: HandlerContext): Caller | undefined => context.values.get(callerKey);

/**
 * Tells {@link guard} the address of the peer, which a server's interceptors do not see:
 * connectNodeAdapter({ contextValues, … }). Without it, and without the option clientIp,
 * limits per IP are left out.
 */
export const contextValues = (req: { readonly socket: { readonly remoteAddress?: string | undefined } }): ContextValues =>
  createContextValues().set(remoteKey, req.socket.remoteAddress);

/**
 * Returns an interceptor for the handlers of a Connect server. It enforces the option
 * (tollgate.v1.guard) of each RPC:
 *
 * - permission: the caller needs it. With self, a person who is signed in as the user
 *   whose id the request's field holds needs no permission. Self has no effect on streams,
 *   whose first message is not read before the decision.
 * - authenticated: any good credential is enough; limits that match the option's action
 *   count, or "authenticated" when it has none.
 * - self_only: only the person who is signed in as the user whose id the request's field
 *   holds.
 * - public: every call passes, without a call to Tollgate.
 * - no option: every call is refused.
 *
 * With cost, limits count a call once for each entry of the request's list. Refused calls
 * fail with unauthenticated, permission_denied or resource_exhausted, and with unavailable
 * when Tollgate does not decide. The caller of a stream is checked again while it lasts,
 * and with a Verifier as soon as the credential is revoked.
 */
export function guard(gate: Gate, { recheckMs = 30_000 }: GuardOptions = {}): Interceptor {
  if (!(recheckMs > 0 && recheckMs < 2 ** 31)) {
    throw new TypeError("tollgate: recheckMs must be more than 0");
  }
  return (next) => async (req) => {
    const needs = needsOf(req);
    if (needs === "nothing") {
      return next(req);
    }
    const request = describe(gate, req, needs);
    const outcome = await decide(gate, request, req.signal);
    if (outcome.refusal) {
      throw errorOf(outcome.refusal);
    }
    req.contextValues.set(callerKey, { principal: outcome.principal, decision: outcome.decision });
    const res = await (req.stream
      ? watchStream(next, req, { gate, request, recheckMs, principal: outcome.principal, errorOf })
      : next(req));
    for (const [name, value] of Object.entries(outcome.headers)) {
      res.header.set(name, value);
    }
    return res;
  };
}

type AnyRequest = UnaryRequest | StreamRequest;

/** Returns what a call needs; it throws when its RPC does not say. */
function needsOf(req: AnyRequest): Described | "nothing" {
  const { method } = req;
  const option: Guard | undefined = hasOption(method, guardOption) ? getOption(method, guardOption) : undefined;
  const { case: kind, value } = option?.rule ?? {};
  const message = req.stream ? undefined : req.message;
  const cost = option && entries(method.input, message, option.cost);
  if (kind === "public" && value === true) {
    return "nothing";
  }
  if (kind === "authenticated" && value === true) {
    return { authenticated: true, permission: option?.action, cost };
  }
  if (kind === "selfOnly" && value) {
    return { selfOnly: true, self: text(method.input, message, String(value)), permission: option?.action, cost };
  }
  if (kind === "permission" && value) {
    return { permission: String(value), self: text(method.input, message, option?.self ?? ""), cost };
  }
  throw errorOf(unguarded(`/${method.parent.typeName}/${method.name}`));
}

function describe(gate: Gate, req: AnyRequest, needs: Described): AuthorizeRequest {
  const authorization = req.header.get("authorization");
  const incoming = {
    authorization: authorization === null ? [] : [authorization],
    header: (name: string) => req.header.get(name) ?? undefined,
    headers: () => req.header,
    remote: req.contextValues.get(remoteKey),
    path: `${req.method.parent.typeName}/${req.method.name}`,
  };
  return requestOf(gate, incoming, needs);
}

/** Returns the value of a message's string field; empty when there is no such field. */
function text<D extends DescMessage>(desc: D, message: MessageShape<D> | undefined, name: string): string {
  const field = desc.fields.find((f) => f.name === name);
  if (!message || field?.fieldKind !== "scalar") {
    return "";
  }
  const value: unknown = reflect(desc, message).get(field);
  return typeof value === "string" ? value : "";
}

/** Returns how many entries the message's list has; 0 for no such list. */
function entries<D extends DescMessage>(desc: D, message: MessageShape<D> | undefined, name: string): number {
  const field = desc.fields.find((f) => f.name === name);
  return message && field?.fieldKind === "list" ? reflect(desc, message).get(field).size : 0;
}

const codes = {
  unauthenticated: Code.Unauthenticated,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  canceled: Code.Canceled,
  unavailable: Code.Unavailable,
};

function errorOf(r: Refusal): ConnectError {
  const retry = r.retry ? [{ desc: RetryInfoSchema, value: r.retry }] : [];
  return new ConnectError(r.message, codes[r.code], r.headers, [{ desc: ErrorInfoSchema, value: r.info }, ...retry]);
}
