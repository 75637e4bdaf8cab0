import type { Request, RequestHandler } from "express";
import { incomingOf } from "./node.js";
import { anyCredential, type Caller, Callers, type Described, decide, type Gate, requestOf, rule } from "./protect.js";
import { bodyOf } from "./refusal.js";

export type { Caller, Described, Gate } from "./protect.js";

const callers = new Callers();

/** Returns the caller of a request that a middleware of this module let pass; undefined for others. */
export const caller = (req: Request): Caller | undefined => callers.get(req);

/**
 * Returns middleware that passes a request on when its caller holds a permission. The
 * credential is read from Authorization: Bearer, and the path is recorded as the
 * resource. `describe` may say more: {resource: `orders/${req.params.id}`}.
 *
 * Other requests are answered with 401 for no or a bad credential, 403 without the
 * permission, 429 over a limit, and 503 when Tollgate does not decide.
 *
 * The address of the peer counts: behind a proxy set the option clientIp, or have
 * `describe` say {ip: req.ip} with Express's "trust proxy".
 */
export const protect = (gate: Gate, permission: string, describe?: (req: Request) => Described | Promise<Described>): RequestHandler =>
  middleware(gate, rule(permission), describe);

/** Returns middleware that passes a request on when its credential is good, whatever its caller may do. */
export const authenticate = (gate: Gate, describe?: (req: Request) => Described | Promise<Described>): RequestHandler =>
  middleware(gate, anyCredential, describe);

function middleware(gate: Gate, needs: Described, describe?: (req: Request) => Described | Promise<Described>): RequestHandler {
  return async (req, res, next) => {
    try {
      const request = requestOf(gate, incomingOf(req, req.originalUrl), needs, await describe?.(req));
      const outcome = await decide(gate, request);
      if (outcome.refusal) {
        res.writeHead(outcome.refusal.status, { ...outcome.refusal.headers, "Content-Type": "application/json" });
        res.end(bodyOf(outcome.refusal));
        return;
      }
      callers.set(req, outcome);
      for (const [name, value] of Object.entries(outcome.headers)) {
        res.setHeader(name, value);
      }
    } catch (e) {
      next(e); // of describe, or clientIp
      return;
    }
    next();
  };
}
