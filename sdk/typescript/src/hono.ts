import type { Context, Env, MiddlewareHandler } from "hono";
import { anyCredential, type Caller, Callers, type Described, decide, type Gate, requestOf, rule } from "./protect.js";
import { responseOf } from "./refusal.js";
import { incomingOf } from "./web.js";

export type { Caller, Described, Gate } from "./protect.js";

const callers = new Callers();

/** Returns the caller of a request that a middleware of this module let pass; undefined for others. */
export const caller = (c: Context): Caller | undefined => callers.get(c.req.raw);

/**
 * Returns middleware that passes a request on when its caller holds a permission. The
 * credential is read from Authorization: Bearer, and the path is recorded as the
 * resource. `describe` may say more: {resource: `orders/${c.req.param("id")}`}.
 *
 * Other requests are answered with 401 for no or a bad credential, 403 without the
 * permission, 429 over a limit, and 503 when Tollgate does not decide.
 *
 * Hono says the caller's address by platform: without {ip: getConnInfo(c).remote.address}
 * from `describe`, or the option clientIp, limits per IP are left out.
 */
export const protect = <E extends Env = Env>(
  gate: Gate,
  permission: string,
  describe?: (c: Context<E>) => Described | Promise<Described>,
): MiddlewareHandler<E> => middleware(gate, rule(permission), describe);

/** Returns middleware that passes a request on when its credential is good, whatever its caller may do. */
export const authenticate = <E extends Env = Env>(
  gate: Gate,
  describe?: (c: Context<E>) => Described | Promise<Described>,
): MiddlewareHandler<E> => middleware(gate, anyCredential, describe);

function middleware<E extends Env>(
  gate: Gate,
  needs: Described,
  describe?: (c: Context<E>) => Described | Promise<Described>,
): MiddlewareHandler<E> {
  return async (c, next) => {
    const incoming = incomingOf(c.req.raw);
    const outcome = await decide(gate, requestOf(gate, incoming, needs, await describe?.(c)), incoming.signal);
    if (outcome.refusal) {
      return responseOf(outcome.refusal);
    }
    callers.set(c.req.raw, outcome);
    await next();
    for (const [name, value] of Object.entries(outcome.headers)) {
      c.header(name, value);
    }
    return undefined;
  };
}
