// A service in each framework that answers GET /orders/{id} with the name of its caller.

import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { type HttpBindings, serve } from "@hono/node-server";
import { getConnInfo } from "@hono/node-server/conninfo";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import * as forExpress from "../src/express.js";
import * as forFastify from "../src/fastify.js";
import * as forFetch from "../src/fetch.js";
import * as forHono from "../src/hono.js";
import type { Described, Gate } from "../src/protect.js";

export interface Service {
  /** Such as "http://127.0.0.1:8080". */
  readonly url: string;
  close(): Promise<unknown>;
}

/** What a test wants of a service. */
export interface Wanted {
  readonly gate: Gate;
  /** Any good credential will do; the permission is orders:read otherwise. */
  readonly authenticated?: boolean;
  readonly describe?: (id: string) => Described;
}

async function listen(listener: RequestListener): Promise<Service> {
  return listening(createServer(listener).listen(0, "127.0.0.1"));
}

async function listening(server: Server): Promise<Service> {
  if (!server.listening) {
    await once(server, "listening");
  }
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

const name = (caller: forFetch.Caller | undefined) => caller?.principal?.username ?? "nobody";

export const frameworks: Record<string, (wanted: Wanted) => Promise<Service>> = {
  express: ({ gate, authenticated, describe }) => {
    const more = describe && ((req: express.Request) => describe(String(req.params["id"])));
    const app = express();
    app.get(
      "/orders/:id",
      authenticated ? forExpress.authenticate(gate, more) : forExpress.protect(gate, "orders:read", more),
      (req, res) => {
        res.send(name(forExpress.caller(req)));
      },
    );
    return listen(app);
  },

  fastify: async ({ gate, authenticated, describe }) => {
    const more = describe && ((req: forFastifyRequest) => describe((req.params as { id: string }).id));
    const app = fastify();
    const onRequest = authenticated ? forFastify.authenticate(gate, more) : forFastify.protect(gate, "orders:read", more);
    app.get("/orders/:id", { onRequest }, async (req) => name(forFastify.caller(req)));
    await app.listen({ port: 0, host: "127.0.0.1" });
    const service = await listening(app.server);
    return { url: service.url, close: () => app.close() };
  },

  hono: async ({ gate, authenticated, describe }) => {
    const app = new Hono<{ Bindings: HttpBindings }>();
    const more = (c: Parameters<typeof getConnInfo>[0]) => ({ ip: getConnInfo(c).remote.address, ...describe?.(c.req.param("id") ?? "") });
    app.get("/orders/:id", authenticated ? forHono.authenticate(gate, more) : forHono.protect(gate, "orders:read", more), (c) =>
      c.text(name(forHono.caller(c))),
    );
    return listening(serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server);
  },

  fetch: async ({ gate, authenticated, describe }) => {
    const handler = (_: Request, caller: forFetch.Caller, _ip: string | undefined) => new Response(name(caller));
    const more = (request: Request, ip: string | undefined) => ({ ip, ...describe?.(request.url.replace(/.*\//, "")) });
    const answer = authenticated ? forFetch.authenticate(gate, handler, more) : forFetch.protect(gate, "orders:read", handler, more);
    return listening(
      serve({
        fetch: (request, { incoming }) => answer(request, incoming.socket.remoteAddress),
        port: 0,
        hostname: "127.0.0.1",
      }) as Server,
    );
  },
};

type forFastifyRequest = Parameters<typeof forFastify.caller>[0];
