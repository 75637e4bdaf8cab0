import type { FastifyReply, FastifyRequest } from "fastify";
import { incomingOf } from "./node.js";
import { anyCredential, type Caller, Callers, type Described, decide, type Gate, requestOf, rule } from "./protect.js";
import { bodyOf } from "./refusal.js";

export type { Caller, Described, Gate } from "./protect.js";

type Hook = (req: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

const callers = new Callers();

/** Returns the caller of a request that a hook of this module let pass; undefined for others. */
export const caller = (req: FastifyRequest): Caller | undefined => callers.get(req);

/**
 * Returns a hook, such as onRequest, that passes a request on when its caller holds a
 * permission. The credential is read from Authorization: Bearer, and the path is
 * recorded as the resource. `describe` may say more: {resource: "orders/42"}.
 *
 * Other requests are answered with 401 for no or a bad credential, 403 without the
 * permission, 429 over a limit, and 503 when Tollgate does not decide.
 *
 * The address of the peer counts: behind a proxy set the option clientIp, or have
 * `describe` say {ip: req.ip} with Fastify's trustProxy.
 */
export const protect = (gate: Gate, permission: string, describe?: (req: FastifyRequest) => Described | Promise<Described>): Hook =>
  hook(gate, rule(permission), describe);

/** Returns a hook that passes a request on when its credential is good, whatever its caller may do. */
export const authenticate = (gate: Gate, describe?: (req: FastifyRequest) => Described | Promise<Described>): Hook =>
  hook(gate, anyCredential, describe);

function hook(gate: Gate, needs: Described, describe?: (req: FastifyRequest) => Described | Promise<Described>): Hook {
  return async (req, reply) => {
    const request = requestOf(gate, incomingOf(req.raw, req.originalUrl), needs, await describe?.(req));
    const outcome = await decide(gate, request);
    if (outcome.refusal) {
      return reply
        .code(outcome.refusal.status)
        .headers({ ...outcome.refusal.headers, "content-type": "application/json" })
        .send(bodyOf(outcome.refusal));
    }
    callers.set(req, outcome);
    reply.headers(outcome.headers);
    return undefined;
  };
}
