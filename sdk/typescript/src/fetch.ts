import { anyCredential, type Caller, type Described, decide, type Gate, requestOf, rule } from "./protect.js";
import { responseOf } from "./refusal.js";
import { incomingOf } from "./web.js";

export type { Caller, Described, Gate } from "./protect.js";

/** Answers a request; `rest` is what the platform gives beside it. */
export type Handler<A extends unknown[]> = (request: Request, caller: Caller, ...rest: A) => Response | Promise<Response>;

/** Says more about a request than its HTTP request does. */
export type Describe<A extends unknown[]> = (request: Request, ...rest: A) => Described | Promise<Described>;

/**
 * Returns a handler of the fetch API, as Deno, Bun and Workers have, that answers a
 * request when its caller holds a permission. The credential is read from
 * Authorization: Bearer, and the path is recorded as the resource. `describe` may say
 * more: {resource: "orders/42"}.
 *
 * Other requests are answered with 401 for no or a bad credential, 403 without the
 * permission, 429 over a limit, and 503 when Tollgate does not decide.
 *
 * The fetch API does not say the caller's address: without {ip} from `describe`, or the
 * option clientIp, limits per IP are left out.
 */
export const protect = <A extends unknown[]>(gate: Gate, permission: string, handler: Handler<A>, describe?: Describe<A>) =>
  wrap(gate, rule(permission), handler, describe);

/** Returns a handler that answers a request when its credential is good, whatever its caller may do. */
export const authenticate = <A extends unknown[]>(gate: Gate, handler: Handler<A>, describe?: Describe<A>) =>
  wrap(gate, anyCredential, handler, describe);

function wrap<A extends unknown[]>(gate: Gate, needs: Described, handler: Handler<A>, describe?: Describe<A>) {
  return async (request: Request, ...rest: A): Promise<Response> => {
    const incoming = incomingOf(request);
    const outcome = await decide(gate, requestOf(gate, incoming, needs, await describe?.(request, ...rest)), incoming.signal);
    if (outcome.refusal) {
      return responseOf(outcome.refusal);
    }
    const res = await handler(request, { principal: outcome.principal, decision: outcome.decision }, ...rest);
    return withHeaders(res, outcome.headers);
  };
}

/** Copies an answer only when its headers cannot be changed, as those of a fetch. */
function withHeaders(res: Response, headers: Record<string, string>): Response {
  const list = Object.entries(headers);
  try {
    for (const [name, value] of list) {
      res.headers.set(name, value);
    }
    return res;
  } catch {
    const copy = new Response(res.body, res);
    for (const [name, value] of list) {
      copy.headers.set(name, value);
    }
    return copy;
  }
}
