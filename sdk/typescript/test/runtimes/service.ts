// A service in the fetch API, and calls of the SDK, as the package is built. The same on
// every runtime: it is the platform that differs.

import { Tollgate, UnavailableError } from "@tollgate/sdk";
import { protect } from "@tollgate/sdk/fetch";
import { Verifier } from "@tollgate/sdk/verifier";
import { verdict } from "./audit.js";
import { config } from "./config.js";

const options = { url: config.url, apiKey: config.key, timeoutMs: 10_000, log: () => {} };
const gate = new Tollgate(options);
const read = (token: string) => ({ credential: token, permission: "orders:read" });

const calls: Record<string, (query: URLSearchParams) => Promise<unknown>> = {
  async authorize(query) {
    const { allowed, reason, principal } = await gate.authorize(read(query.get("token") ?? ""));
    return { allowed, reason, username: principal?.username };
  },

  /** Asks an address where nobody listens. */
  async unreachable() {
    const nobody = new Tollgate({ ...options, url: config.nobody });
    try {
      return await nobody.authorize(read("a.b.c"));
    } catch (e) {
      return { unavailable: e instanceof UnavailableError };
    }
  },

  async checkLimit(query) {
    const key = query.get("key") ?? "";
    const [first, second] = [await gate.checkLimit(config.limit, key), await gate.checkLimit(config.limit, key)];
    return [first.allowed, second.allowed];
  },

  /** Verifies proofs of the audit log. */
  proofs: () => Promise.all(config.proofs.map(verdict)),

  /** Verifies a token, has it revoked, and waits until the feed has said so. */
  async verifier(query) {
    const token = query.get("token") ?? "";
    const carried: string[] = [];
    const counting: typeof fetch = (input, init) => {
      carried.push(String(input).replace(/.*\//, ""));
      return fetch(input, init);
    };
    const verifier = new Verifier(new Tollgate({ ...options, fetch: counting }), { issuer: config.url, audience: "tollgate" });
    try {
      await verifier.ready();
      const before = await verifier.verify(token);
      const res = await fetch(config.url + (query.get("revoke") ?? ""), {
        method: "DELETE",
        headers: { Authorization: `Bearer ${query.get("admin")}` },
      });
      const { revision } = (await res.json()) as { revision: string };
      await verifier.ready(BigInt(revision));
      const after = await verifier.verify(token);
      return { before: before.reason, userId: before.principal?.userId, after: after.reason, carried: carried.sort() };
    } finally {
      verifier.close();
    }
  },
};

const orders = protect(gate, "orders:read", (_, { principal }) => new Response(principal?.username));

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const call = calls[pathname.replace("/calls/", "")];
    if (!call) {
      return orders(request);
    }
    try {
      return Response.json(await call(searchParams));
    } catch (e) {
      return new Response(String(e), { status: 500 });
    }
  },
};
