// The examples of docs/typescript.md, which are the files in examples/, against the real
// server.

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server as HttpServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { serve } from "@hono/node-server";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { OrdersService } from "../examples/gen/orders/v1/orders_pb.js";
import { type Server, start } from "./server.js";

const documented = "http://127.0.0.1:8000";
let server: Server;
let alice = "";
let bob = "";
const closing: (() => unknown)[] = [];

beforeAll(async () => {
  server = await start({ TOLLGATE_ISSUER: documented });
  const { key } = await server.service("shop", "tollgate:limits:check", "tollgate:audit:record");
  process.env["TOLLGATE_API_KEY"] = key;
  const real = globalThis.fetch;
  vi.stubGlobal("fetch", (input: string, init: RequestInit) => real(input.replace(documented, server.url), init));
  await server.person("alice", "orders:read");
  await server.person("bob", "orders:write");
  alice = (await server.login("alice")).accessToken;
  bob = (await server.login("bob")).accessToken;
  await server.call("POST", "/v1/limits", {
    name: "exports",
    subject: "SUBJECT_CUSTOM",
    contextKey: "tenant",
    permission: "exports:run",
    rate: 10,
    period: "3600s",
  });
});
afterAll(async () => {
  vi.unstubAllGlobals();
  for (const close of closing) await close();
  await server.stop();
});

test("the page has the examples as they are run", () => {
  const page = readFileSync(new URL("../../../docs/typescript.md", import.meta.url), "utf8");
  const blocks = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map((m) => m[1]);
  const examples = new URL("../examples/", import.meta.url);
  const files = readdirSync(examples).filter((name) => name.endsWith(".ts"));
  expect(new Set(blocks)).toEqual(new Set(files.map((name) => readFileSync(new URL(name, examples), "utf8"))));
});

async function listen(http: HttpServer): Promise<string> {
  if (!http.listening) http.listen(0, "127.0.0.1");
  await once(http, "listening");
  closing.push(() => {
    http.closeAllConnections();
    http.close();
  });
  const address = http.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
}

async function answers(url: string, token: string, path = "/orders/42"): Promise<[number, string]> {
  const res = await fetch(url + path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  return [res.status, res.ok ? await res.text() : ""];
}

async function protects(url: string, text = "order 42 for alice"): Promise<void> {
  expect(await answers(url, alice)).toEqual([200, text]);
  expect(await answers(url, bob)).toEqual([403, ""]);
  expect(await answers(url, "")).toEqual([401, ""]);
}

test("ask", async () => {
  const { readOrder } = await import("../examples/ask.js");
  expect(await readOrder(alice, "42")).toBe("order 42 for alice");
  expect(await readOrder(bob, "42")).toBe("no: PERMISSION_MISSING");
});

test("express", async () => {
  const { app } = await import("../examples/express.js");
  await protects(await listen(createServer(app as RequestListener)));
});

test("fastify", async () => {
  const { app } = await import("../examples/fastify.js");
  closing.push(() => app.close());
  await protects(await app.listen({ port: 0, host: "127.0.0.1" }));
});

test("hono", async () => {
  const { app } = await import("../examples/hono.js");
  await protects(await listen(serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as HttpServer));
});

test("fetch", async () => {
  const { default: handler } = await import("../examples/fetch.js");
  await protects(
    await listen(serve({ fetch: (request) => handler.fetch(request), port: 0, hostname: "127.0.0.1" }) as HttpServer),
    "/orders/42 for alice",
  );
});

test("connect", async () => {
  const example = await import("../examples/connect.js");
  const orders = createClient(OrdersService, createConnectTransport({ baseUrl: await listen(example.server), httpVersion: "1.1" }));
  const as = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
  expect((await orders.getOrder({ id: "42" }, as(alice))).order).toMatchObject({ id: "42", item: "tea" });
  expect((await orders.getMenu({})).items).toEqual(["tea", "cake"]);
  await expect(orders.getOrder({ id: "42" }, as(bob))).rejects.toThrow("permission_denied");
  await expect(orders.audit({}, as(alice))).rejects.toThrow("must give it the option");
});

test("verifier", async () => {
  const { app, verifier } = await import("../examples/verifier.js");
  closing.push(() => verifier.close());
  const url = await listen(createServer(app as RequestListener));
  expect(await answers(url, bob, "/me")).toEqual([200, expect.stringMatching(/^you are [0-9a-f-]{36}$/)]);
  expect(await answers(url, "a.b.c", "/me")).toEqual([401, ""]);
});

test("audit", async () => {
  const { check } = await import("../examples/audit.js");
  const { event } = await server.call("POST", "/v1/audit/events", {
    action: "order.cancel",
    outcome: "OUTCOME_SUCCESS",
    resource: "orders/7",
    actor: { username: "mia" },
  });
  const proof = await vi.waitFor(async () => {
    const res = await fetch(`${documented}/v1/audit/tlog/proof/${event.id}`, { headers: { Authorization: `Bearer ${server.token}` } });
    return res.ok ? res.text() : Promise.reject(new Error(await res.text()));
  }, 10_000);
  const { keys } = await server.call("GET", "/v1/audit/keys");
  const file = join(await mkdtemp(join(tmpdir(), "tollgate-proof-")), "event.tlog-proof");
  closing.push(() => rm(dirname(file), { recursive: true }));
  await writeFile(file, proof);
  expect(await check(file, keys[0].key)).toMatch(/^proven: mia order\.cancel orders\/7 at \S+, event \d+$/);
  await writeFile(file, proof.replace(/^index \d+$/m, "index 0"));
  expect(await check(file, keys[0].key)).toMatch(/^not proven: /);
  await expect(check(file, "x")).rejects.toThrow("is not a log's key");
});

test("more", async () => {
  const { catalog, exportOrders } = await import("../examples/more.js");
  expect(await exportOrders(alice, "acme")).toBe("5 of 10 left");
  expect(await exportOrders(bob, "acme")).toBe("no: PERMISSION_MISSING");
  expect(await exportOrders(alice, "acme")).toMatch(/^try again in \d+ ms$/);
  expect(await catalog(alice)).toBe("PERMISSION_MISSING");
  expect(await server.events("orders.export")).toHaveLength(1);
});
