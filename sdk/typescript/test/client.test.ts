import { inspect } from "node:util";
import { describe, expect, inject, test } from "vitest";
import { RolesService } from "../src/gen/tollgate/v1/roles_pb.js";
import { InvalidArgumentError, Tollgate, toError, UnauthenticatedError } from "../src/index.js";
import { admin, failure, fresh, gate, signedIn } from "./harness.js";

describe("authorize", () => {
  test("allows who holds the permission", async () => {
    const alice = await signedIn("orders:read");
    const d = await gate().authorize({ credential: alice.accessToken, permission: "orders:read", resource: "orders/42" });
    expect(d).toMatchObject({ allowed: true, reason: "OK", retryAfterMs: undefined });
    expect(d.principal).toMatchObject({
      userId: alice.id,
      username: alice.name,
      service: false,
      roles: [`${alice.name}-role`],
      amr: ["pwd"],
    });
    expect(d.principal?.expiresAt?.getTime()).toBeGreaterThan(Date.now());
    expect(typeof d.revision).toBe("bigint");
  });

  test.each([
    ["no credential", {}, "CREDENTIAL_MISSING"],
    ["a malformed one", { credential: "no token, is it?" }, "CREDENTIAL_INVALID"],
    ["a wrong one", { credential: "a.b.c" }, "CREDENTIAL_INVALID"],
    ["an unknown key", { credential: `tg_${"x".repeat(40)}` }, "CREDENTIAL_INVALID"],
    ["an unknown user", { userId: "0197a1b2-0000-7000-8000-000000000000" }, "USER_UNKNOWN"],
  ])("refuses %s", async (_, caller, reason) => {
    expect(await gate().authorize({ ...caller, permission: "orders:read" })).toMatchObject({
      allowed: false,
      reason,
      principal: undefined,
    });
  });

  test("refuses who lacks the permission", async () => {
    const bob = await signedIn("orders:read");
    const bound = gate().as(bob.accessToken);
    expect(await bound.authorize({ permission: "orders:write" })).toMatchObject({ allowed: false, reason: "PERMISSION_MISSING" });
    expect(await bound.authorize({ permission: "x:y", self: bob.id })).toMatchObject({ allowed: true });
    expect(await bound.authorize({ anyOf: ["orders:write", "orders:read"] })).toMatchObject({ allowed: true });
    expect(await bound.authorize({ allOf: ["orders:write", "orders:read"] })).toMatchObject({ allowed: false });
    expect(await bound.authorize({ authenticated: true })).toMatchObject({ allowed: true });
  });

  test("a bound client keeps its credential", async () => {
    const alice = await signedIn("orders:read");
    const forged = { permission: "orders:read", credential: "another", userId: "somebody" };
    expect((await gate().as(alice.accessToken).authorize(forged)).principal?.userId).toBe(alice.id);
  });

  test("takes what callers choose", async () => {
    const alice = await signedIn("orders:read");
    const d = await gate().authorize({
      credential: alice.accessToken,
      permission: "orders:read",
      resource: `orders/${"é".repeat(500)}`,
      userAgent: `\ud800${"x".repeat(9999)}`,
      requestId: "\n\0",
      ip: "1.2.3.4, 5.6.7.8",
    });
    expect(d.allowed).toBe(true);
  });
});

test("decides by attributes and says how", async () => {
  const a = admin();
  const alice = await signedIn("docs:list");
  const role = fresh("reader");
  await a.call("POST", "/v1/roles", {
    name: role,
    grants: [{ permission: "docs:read", condition: 'resource.attributes.public == true && context.tenant == "acme"' }],
  });
  await a.call("PUT", `/v1/roles/${role}/members/${alice.id}`, {});
  const call = { permission: "docs:read", resource: "docs/1", context: { tenant: "acme" } };
  const bound = gate().as(alice.accessToken);
  expect((await bound.authorize({ ...call, resourceAttributes: { public: true, tags: [1, null, { a: "b" }] } })).allowed).toBe(true);
  expect((await bound.authorize({ ...call, resourceAttributes: { public: false } })).reason).toBe("CONDITION_FALSE");
  const why = await bound.explain({ ...call, resourceAttributes: { public: false } });
  expect(why).toMatchObject({ allowed: false, reason: "CONDITION_FALSE" });
  expect(why.grants[0]).toMatchObject({ role, permission: "docs:read", effect: "ALLOW", verdict: "CONDITION_FALSE" });
});

test("verify", async () => {
  const alice = await signedIn("orders:read");
  const g = gate();
  expect(await g.verify(alice.accessToken)).toMatchObject({ active: true, reason: "OK", principal: { userId: alice.id } });
  expect(await g.verify("")).toMatchObject({ active: false, reason: "CREDENTIAL_MISSING" });
  expect(await g.verify("a b")).toMatchObject({ active: false, reason: "CREDENTIAL_INVALID" });
  await admin().call("DELETE", `/v1/users/${alice.id}/sessions/${alice.sessionId}`);
  expect(await g.as(alice.accessToken).verify()).toMatchObject({ active: false, reason: "CREDENTIAL_REVOKED", principal: undefined });
});

test("checkLimit", async () => {
  const name = fresh("exports");
  await admin().call("POST", "/v1/limits", {
    name,
    subject: "SUBJECT_CUSTOM",
    contextKey: "tenant",
    permission: "exports:run",
    rate: 10,
    period: "60s",
  });
  const g = gate();
  expect(await g.checkLimit(name, "acme", { cost: 8 })).toMatchObject({ allowed: true, status: { name, limit: 10, remaining: 2 } });
  expect(await g.checkLimit(name, "acme", { peek: true })).toMatchObject({ allowed: true, status: { remaining: 2 } });
  const refused = await g.checkLimit(name, "acme", { cost: 5 });
  expect(refused).toMatchObject({ allowed: false, status: { exceeded: true } });
  expect(refused.retryAfterMs).toBeGreaterThan(0);
  expect(await failure(g.checkLimit(name, "acme", { cost: 1.5 }))).toMatchObject({ field: "cost" });
});

test("recordEvent", async () => {
  const action = `order.cancel-${fresh("x")}`;
  const { principal } = await gate().authorize({ credential: (await signedIn("orders:read")).accessToken, permission: "orders:read" });
  await gate().recordEvent({
    actor: principal,
    action,
    outcome: "FAILURE",
    reason: "SHIPPED",
    resource: "orders/42",
    ip: "::ffff:192.0.2.7",
  });
  await gate().recordEvents([{ action, outcome: "SUCCESS" }]);
  const events = await admin().events(action);
  expect(events).toHaveLength(2);
  expect(events[1]).toMatchObject({ reason: "SHIPPED", resource: "orders/42", ip: "192.0.2.7", actor: { userId: principal?.userId } });
});

describe("errors", () => {
  test("name the field", async () => {
    const e = await failure(gate().authorize({ permission: "Orders Read" }));
    expect(e).toBeInstanceOf(InvalidArgumentError);
    expect(e).toMatchObject({ code: "invalid_argument", field: "permission", requestId: expect.stringMatching(/./) });
    expect(await failure(gate().authorize({ permission: "a:b", credential: "x", userId: "y" }))).toMatchObject({ field: "userId" });
    expect(await failure(gate().authorize({ permission: "a:b", cost: -1 }))).toMatchObject({ field: "cost" });
  });

  test("say that the service's own key is bad, and not which", async () => {
    const apiKey = `tg_${"s".repeat(40)}`;
    const e = await failure(gate({ apiKey }).authorize({ permission: "a:b" }));
    expect(e).toBeInstanceOf(UnauthenticatedError);
    expect(inspect(e, { depth: 10 })).not.toContain(apiKey);
    expect(inspect(gate(), { depth: 10 })).not.toContain(inject("key"));
  });

  test("of options repeat no secret", () => {
    for (const options of [
      { url: "http://user:hunter2@[" },
      { url: "https://user:hunter2@example.com" },
      { url: "https://x", apiKey: "hunter2\n" },
      { url: "file:hunter2" },
    ]) {
      const make = () => new Tollgate(options);
      expect(make).toThrow(TypeError);
      expect(make).not.toThrow(/hunter2/);
    }
  });

  test("of generated clients have the same classes", async () => {
    const e = toError(await failure(gate().client(RolesService).getRole({ name: "service" })));
    expect(e).toMatchObject({ name: "PermissionDeniedError", reason: "PERMISSION_MISSING" });
  });
});
