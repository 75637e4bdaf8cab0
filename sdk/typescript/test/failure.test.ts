import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { Reason } from "../src/gen/tollgate/v1/reason_pb.js";
import { Tollgate } from "../src/index.js";
import { allowed, fault, Roles } from "./fake.js";
import { failure, gate, signedIn } from "./harness.js";
import { start } from "./server.js";

const down = () => {
  throw fault(Code.Unavailable, "DEPENDENCY_DOWN");
};
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const token = (claims: object) => `${encode({ alg: "EdDSA" })}.${encode(claims)}.c2ln`;
const now = Math.floor(Date.now() / 1000);
const good = token({ iat: now, exp: now + 60 });
const call = { credential: good, permission: "catalog:read" };

test("a stopped server allows nothing", async () => {
  const server = await start();
  const { key } = await server.service("shop");
  const alice = await server.person("alice", "catalog:read");
  const { accessToken } = await server.login(alice.name);
  const g = new Tollgate({ url: server.url, apiKey: key, timeoutMs: 2000 });
  const bound = g.as(accessToken);
  expect((await bound.authorize({ permission: "catalog:read" })).allowed).toBe(true);
  await server.stop();
  const errors = await Promise.all(
    [bound.authorize({ permission: "catalog:read" }), bound.authorize({ permission: "a:b" }), bound.verify(), g.checkLimit("a", "b")].map(
      failure,
    ),
  );
  for (const e of errors) {
    expect(e).toMatchObject({ name: "UnavailableError", code: "unavailable" });
    expect(String(e)).not.toContain(accessToken);
  }
  expect(await bound.authorize({ permission: "catalog:read" }, { onUnavailable: "allow" })).toMatchObject({
    allowed: true,
    reason: "UNAVAILABLE",
    principal: undefined,
  });
});

describe("onUnavailable allow", () => {
  const open = (answer: ConstructorParameters<typeof Roles>[0], timeoutMs = 5000) =>
    new Roles(answer).gate({ onUnavailable: "allow", retries: 0, timeoutMs });

  test("allows what nobody decided", async () => {
    expect(await open(down).authorize(call)).toMatchObject({ allowed: true, reason: "UNAVAILABLE", principal: undefined });
  });

  test.each([
    ["no credential", { credential: undefined }],
    ["a malformed one", { credential: "a b" }],
    ["no token", { credential: "abc" }],
    ["an expired one", { credential: token({ iat: now - 60, exp: now }) }],
    ["one from the future", { credential: token({ iat: now + 600, exp: now + 900 }) }],
    ["a revision that a caller may have chosen", { minRevision: 99n }],
  ])("allows nothing with %s", async (_, other) => {
    expect(await failure(open(down).authorize({ ...call, ...other }))).toMatchObject({ name: "UnavailableError" });
  });

  test.each([
    ["an invalid request", Code.InvalidArgument, "INVALID_FIELD"],
    ["this service's own credential", Code.Unauthenticated, "CREDENTIAL_REVOKED"],
    ["a limit on this service", Code.ResourceExhausted, "LIMITED"],
    ["a refusal that was not recorded", Code.Unavailable, "AUDIT_BUSY"],
    ["a fault", Code.Internal, "INTERNAL"],
  ])("allows nothing for %s", async (_, code, reason) => {
    const g = open(() => {
      throw fault(code, reason);
    });
    expect(await failure(g.authorize(call))).toMatchObject({ reason });
  });

  test("allows nothing that its own signal ended, or a short timeout", async () => {
    const never = () => new Promise<never>(() => {});
    expect(await failure(open(never).authorize(call, { signal: AbortSignal.timeout(10) }))).toMatchObject({ code: "canceled" });
    expect(await failure(open(never, 30).authorize(call))).toMatchObject({ code: "deadline_exceeded" });
    expect((await open(never, 1000).authorize(call)).reason).toBe("UNAVAILABLE");
  });

  test("allows nothing to a credential that Tollgate refused before", async () => {
    const roles = new Roles();
    const g = roles.gate({ onUnavailable: "allow", retries: 0 });
    const answers = [
      { reason: Reason.CREDENTIAL_REVOKED },
      down,
      allowed,
      down,
      { reason: Reason.LIMITED, retryAfter: { seconds: 1n } },
      down,
    ];
    const seen: string[] = [];
    for (const answer of answers) {
      roles.answer = typeof answer === "function" ? answer : () => answer;
      seen.push(
        await g.authorize(call).then(
          (d) => d.reason,
          (e) => e.name,
        ),
      );
    }
    expect(seen).toEqual([expect.stringMatching(/^CREDENTIAL_/), "UnavailableError", "OK", "UNAVAILABLE", "LIMITED", "UNAVAILABLE"]);
  });

  test("is for the call that says so", async () => {
    const g = new Roles(down).gate({ retries: 0 });
    expect(await failure(g.authorize(call))).toMatchObject({ name: "UnavailableError" });
    expect((await g.authorize(call, { onUnavailable: "allow" })).reason).toBe("UNAVAILABLE");
    const closed = open(down);
    expect(await failure(closed.authorize(call, { onUnavailable: "deny" }))).toMatchObject({ name: "UnavailableError" });
  });
});

test("a function decides by itself", async () => {
  const g = new Roles(down).gate({
    retries: 0,
    onUnavailable: (error, request) => {
      if (request.permission !== "catalog:read") throw error;
      return { allowed: true, reason: "UNAVAILABLE", principal: undefined, retryAfterMs: undefined, limits: [], revision: 0n, grant: "" };
    },
  });
  expect((await g.authorize(call)).allowed).toBe(true);
  expect(await failure(g.authorize({ ...call, permission: "orders:read" }))).toMatchObject({ name: "UnavailableError" });
});

test("an answer without a principal allows nothing", async () => {
  expect(await failure(new Roles(() => ({ allowed: true })).gate().authorize(call))).toMatchObject({ reason: "INCOMPLETE_ANSWER" });
});

test("a malformed credential is not allowed, whatever Tollgate answers", async () => {
  const roles = new Roles(() => ({ allowed: true, reason: Reason.OK, principal: { userId: "somebody" } }));
  expect(await roles.gate().authorize({ ...call, credential: "a, b" })).toMatchObject({ allowed: false });
  expect(roles.requests[0]?.credential.case).toBeUndefined();
});

test("the real server says what is about the service itself", async () => {
  const alice = await signedIn("orders:read");
  const g = gate({ apiKey: undefined, accessToken: alice.accessToken });
  expect(await failure(g.authorize(call))).toMatchObject({ name: "PermissionDeniedError", reason: "PERMISSION_MISSING" });
});
