// The built package on the runtimes that it is for, against the real server.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fresh } from "./harness.js";
import { auditCases } from "./proofs.js";
import { type Running, run, runtimes } from "./runtimes/runtimes.js";
import { freePort, type Server, type Session, start, type User } from "./server.js";

let server: Server;
let settings: Parameters<typeof run>[1];
let alice: User & Session; // may read orders
let bob: User & Session;
beforeAll(async () => {
  server = await start();
  const signedIn = async (name: string, permission: string) => ({
    ...(await server.person(name, permission)),
    ...(await server.login(name)),
  });
  alice = await signedIn("alice", "orders:read");
  bob = await signedIn("bob", "orders:write");
  const { key } = await server.service("shop", "tollgate:limits:check");
  const limit = { name: "once", subject: "SUBJECT_CUSTOM", contextKey: "tenant", permission: "exports:run", rate: 1, period: "3600s" };
  await server.call("POST", "/v1/limits", limit);
  settings = { url: server.url, key, limit: limit.name, nobody: `http://127.0.0.1:${await freePort()}`, proofs: auditCases };
});
afterAll(() => server?.stop());

describe.each(Object.entries(runtimes))("%s", (_, runtime) => {
  let service: Running | undefined;
  beforeAll(async () => {
    service = await run(runtime, settings);
  });
  afterAll(() => service?.stop());

  const call = async (name: string, query: Record<string, string> = {}) => {
    const res = await fetch(`${service?.url}/calls/${name}?${new URLSearchParams(query)}`);
    return res.ok ? res.json() : Promise.reject(new Error(await res.text()));
  };
  const get = (token: string, signal?: AbortSignal) =>
    fetch(`${service?.url}/orders/42`, { headers: token ? { Authorization: `Bearer ${token}` } : {}, signal: signal ?? null });

  test("decides, and has nobody pass when Tollgate cannot be reached", async () => {
    expect(await call("authorize", { token: alice.accessToken })).toEqual({ allowed: true, reason: "OK", username: alice.name });
    expect(await call("authorize", { token: bob.accessToken })).toMatchObject({ allowed: false, reason: "PERMISSION_MISSING" });
    expect(await call("unreachable")).toEqual({ unavailable: true });
  });

  test("counts", async () => {
    expect(await call("checkLimit", { key: fresh("acme") })).toEqual([true, false]);
  });

  test("protects a service", async () => {
    const res = await get(alice.accessToken);
    expect([res.status, await res.text()]).toEqual([200, alice.name]);
    expect((await get(bob.accessToken)).status).toBe(403);
    expect((await get("a.b.c")).status).toBe(401);
    expect((await get("")).status).toBe(401);
  });

  test("answers each of many callers at once", async () => {
    for (let round = 0; round < 5; round++) {
      const statuses = await Promise.all(
        Array.from({ length: 40 }, async (_, i) => (await get((i % 2 === 0 ? alice : bob).accessToken)).status),
      );
      expect(statuses).toEqual(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? 200 : 403)));
    }
  });

  test("answers the others when callers hang up", async () => {
    for (let round = 0; round < 10; round++) {
      const left = new AbortController();
      const gone = Array.from({ length: 10 }, () => get(alice.accessToken, left.signal).catch(() => {}));
      const rest = Array.from({ length: 10 }, async () => (await get(alice.accessToken)).status);
      setTimeout(() => left.abort(), round);
      expect(await Promise.all(rest)).toEqual(Array(10).fill(200));
      await Promise.all(gone);
    }
  });

  test("proves of the audit log what the SDK in Go proves", async () => {
    const verdicts: unknown[] = await call("proofs");
    expect(auditCases.map(({ name }, i) => [name, verdicts[i]])).toEqual(auditCases.map(({ name, want }) => [name, want]));
  });

  test("verifies a token until the feed says that it was revoked", async () => {
    const { accessToken, sessionId } = await server.login("alice");
    const revoke = `/v1/users/${alice.id}/sessions/${sessionId}`;
    expect(await call("verifier", { token: accessToken, admin: server.token, revoke })).toEqual({
      before: "OK",
      userId: alice.id,
      after: "CREDENTIAL_REVOKED",
      carried: ["WatchRevocations", "jwks.json"], // nobody was asked
    });
  });
});
