import { request as httpRequest } from "node:http";
import { create, fromBinary } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { Code } from "@connectrpc/connect";
import { afterEach, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { LimitStatusSchema } from "../src/gen/tollgate/v1/limits_pb.js";
import { Reason } from "../src/gen/tollgate/v1/reason_pb.js";
import { Tollgate } from "../src/index.js";
import { type Answer, allowed, fault, Roles } from "./fake.js";
import { frameworks, type Service, type Wanted } from "./frameworks.js";
import { admin, fresh, gate, signedIn } from "./harness.js";
import { start } from "./server.js";

const invalid = 'Bearer error="invalid_token"';
const stepUp = 'Bearer error="insufficient_user_authentication"';
const scope = 'Bearer error="insufficient_scope"';
const principal = { userId: "user-alice", username: "alice" };
const perUser = { name: "per-user", limit: 10n, remaining: 0n, reset: { seconds: 59n, nanos: 1 }, exceeded: true };
const limits = [{ name: "tried", limit: 5n, shadow: true }, perUser];

const refusals: [reason: keyof typeof Reason, status: number, code: string, challenge: string | null][] = [
  ["CREDENTIAL_MISSING", 401, "unauthenticated", "Bearer"],
  ["CREDENTIAL_INVALID", 401, "unauthenticated", invalid],
  ["CREDENTIAL_EXPIRED", 401, "unauthenticated", invalid],
  ["CREDENTIAL_REVOKED", 401, "unauthenticated", invalid],
  ["USER_DISABLED", 401, "unauthenticated", invalid],
  ["USER_UNKNOWN", 401, "unauthenticated", invalid],
  ["WRONG_AUDIENCE", 401, "unauthenticated", invalid],
  ["SECOND_FACTOR_REQUIRED", 401, "unauthenticated", stepUp],
  ["SIGN_IN_REQUIRED", 401, "unauthenticated", stepUp],
  ["PERMISSION_MISSING", 403, "permission_denied", scope],
  ["SCOPE_MISSING", 403, "permission_denied", scope],
  ["DENIED_BY_GRANT", 403, "permission_denied", scope],
  ["CONDITION_FALSE", 403, "permission_denied", scope],
  ["SELF_ONLY", 403, "permission_denied", scope],
  ["PASSWORD_CHANGE_REQUIRED", 403, "permission_denied", scope],
  ["UNSPECIFIED", 403, "permission_denied", scope],
  ["LIMITED", 429, "resource_exhausted", null],
];

const services: Service[] = [];
afterEach(() => Promise.all(services.splice(0).map((s) => s.close())));

describe.each(Object.entries(frameworks))("%s", (_, serve) => {
  const running = async (wanted: Wanted) => {
    const service = await serve(wanted);
    services.push(service);
    return service.url;
  };
  const answering = async (answer: (typeof Roles.prototype)["answer"], more: Omit<Wanted, "gate"> = {}, options = {}) => {
    const roles = new Roles(answer);
    return { roles, url: await running({ gate: roles.gate({ retries: 0, ...options }), ...more }) };
  };
  const get = (url: string, token = "alice.token", path = "/orders/42", headers = {}) =>
    fetch(url + path, { headers: { Authorization: `Bearer ${token}`, ...headers } });

  test.each(refusals)("answers %s with %s", async (reason, status, code, challenge) => {
    const limited: Answer = reason === "LIMITED" ? { limits, retryAfter: { seconds: 4n, nanos: 1 } } : {};
    const { url } = await answering(() => ({ reason: Reason[reason], principal, ...limited }));
    const res = await get(url);
    expect(res.status).toBe(status);
    expect(res.headers.get("www-authenticate")).toBe(challenge);
    expect(res.headers.get("content-type")).toMatch(/^application\/json(; charset=utf-8)?$/); // Fastify adds it
    expect(res.headers.get("retry-after")).toBe(reason === "LIMITED" ? "5" : null);
    expect(res.headers.get("ratelimit")).toBe(reason === "LIMITED" ? '"per-user";r=0;t=60' : null);
    expect(res.headers.get("ratelimit-policy")).toBe(reason === "LIMITED" ? '"per-user";q=10' : null);
    const body = await res.json();
    expect(body).toMatchObject({ code, message: expect.stringMatching(/./) });
    expect(body.details[0].type).toBe("google.rpc.ErrorInfo");
    expect(fromBinary(ErrorInfoSchema, base64Decode(body.details[0].value))).toMatchObject({ reason, domain: "tollgate.dev" });
    expect(body.details[0].debug).toEqual({ reason, domain: "tollgate.dev" });
  });

  test("passes a request on, with its caller and the limits", async () => {
    const { url, roles } = await answering((req) => ({
      ...allowed(req),
      limits: [create(LimitStatusSchema, { ...perUser, remaining: 9n })],
    }));
    const res = await get(url, "alice.token", "/orders/4%32?secret=1", { "User-Agent": "test", "X-Request-Id": "r-1" });
    expect([res.status, await res.text()]).toEqual([200, "alice"]);
    expect(res.headers.get("ratelimit")).toBe('"per-user";r=9;t=60');
    expect(res.headers.get("ratelimit-policy")).toBe('"per-user";q=10');
    expect(roles.requests[0]).toMatchObject({
      credential: { case: "accessToken", value: "alice.token" },
      permission: "orders:read",
      resource: "/orders/42",
      client: { ip: "127.0.0.1", userAgent: "test", requestId: "r-1" },
    });
  });

  test("takes what the service says of a request", async () => {
    const { url, roles } = await answering(allowed, {
      describe: (id) => ({ resource: `orders/${id}`, context: { tenant: "acme" }, cost: 3, ip: "192.0.2.7" }),
    });
    expect((await get(url)).status).toBe(200);
    expect(roles.requests[0]).toMatchObject({ resource: "orders/42", context: { tenant: "acme" }, cost: 3n, client: { ip: "192.0.2.7" } });
  });

  test("answers nothing good when the service cannot say what a request is", async () => {
    const broken = () => {
      throw new Error("broken");
    };
    const { url, roles } = await answering(allowed, { describe: broken });
    expect((await get(url)).status).toBe(500);
    const { url: other, roles: theirs } = await answering(allowed, {}, { clientIp: broken });
    expect((await get(other)).status).toBe(500);
    expect([roles.carried, theirs.carried]).toEqual([[], []]);
  });

  test("finds the caller behind a proxy by the option clientIp", async () => {
    const clientIp = (remote: string | undefined, headers: Headers) =>
      remote === undefined || remote === "127.0.0.1" ? headers.get("x-forwarded-for")?.replace(/.*, */, "") : remote;
    const { url, roles } = await answering(allowed, {}, { clientIp });
    await get(url, "alice.token", "/orders/42", { "X-Forwarded-For": "203.0.113.9, 198.51.100.7" });
    // The services in Hono and fetch say the address by themselves.
    expect(["198.51.100.7", "127.0.0.1"]).toContain(roles.requests[0]?.client?.ip);
  });

  test("trusts forwarded addresses only when it is told to", async () => {
    const { url, roles } = await answering(allowed);
    const forwarded = { "X-Forwarded-For": "203.0.113.9", Forwarded: "for=203.0.113.9" };
    await get(url, "alice.token", "/orders/42", forwarded);
    expect(roles.requests[0]?.client?.ip).toBe("127.0.0.1");
  });

  test.each([
    ["no field", [], "CREDENTIAL_MISSING"],
    ["another scheme", ["Authorization: Basic YTpi"], "CREDENTIAL_MISSING"],
    ["no token", ["Authorization: Bearer"], "CREDENTIAL_INVALID"],
    ["two tokens", ["Authorization: Bearer a.b.c d.e.f"], "CREDENTIAL_INVALID"],
    ["two fields", ["Authorization: Bearer a.b.c", "Authorization: Bearer d.e.f"], "CREDENTIAL_INVALID"],
    ["two fields alike", ["Authorization: Bearer a.b.c", "authorization: Bearer a.b.c"], "CREDENTIAL_INVALID"],
  ])("refuses a request with %s", async (_, fields, reason) => {
    const { url, roles } = await answering((req) => (req.credential.case ? allowed(req) : { reason: Reason.CREDENTIAL_MISSING }));
    const res = await raw(url, fields);
    expect(res).toMatchObject({ status: 401, reason });
    expect(roles.requests[0]?.credential.case).toBeUndefined();
  });

  test.each([
    ["an outage", () => fault(Code.Unavailable, "DEPENDENCY_DOWN"), "1"],
    ["a busy Tollgate", () => fault(Code.Unavailable, "OVERLOADED", 2500), "3"],
    ["its own key revoked", () => fault(Code.Unauthenticated, "CREDENTIAL_REVOKED"), "1"],
    ["a bad request", () => fault(Code.InvalidArgument, "INVALID_FIELD"), "1"],
    ["an answer without a principal", () => ({ allowed: true }), "1"],
  ])("fails closed after %s", async (_, outcome, retryAfter) => {
    const logged: unknown[] = [];
    const answer = () => {
      const result = outcome();
      if (result instanceof Error) throw result;
      return result;
    };
    const { url } = await answering(answer, {}, { log: (...entry: unknown[]) => logged.push(entry) });
    const res = await get(url);
    expect([res.status, res.headers.get("retry-after"), res.headers.get("www-authenticate")]).toEqual([503, retryAfter, null]);
    expect(await res.json()).toMatchObject({ code: "unavailable", message: "access cannot be checked right now; try again" });
    expect(logged).toHaveLength(1);
    expect(JSON.stringify(logged)).not.toMatch(/alice\.token|tg_service/);
  });

  test("lets through what may fail open, without a caller", async () => {
    const { url } = await answering(
      () => {
        throw fault(Code.Unavailable, "DEPENDENCY_DOWN");
      },
      {},
      { onUnavailable: "allow" },
    );
    const res = await get(url, `tg_${"a".repeat(30)}`);
    expect([res.status, await res.text()]).toEqual([200, "nobody"]);
  });

  test("authenticate asks for any good credential, and for none without a call", async () => {
    const { url, roles } = await answering(allowed, { authenticated: true });
    expect((await get(url)).status).toBe(200);
    expect(roles.requests[0]).toMatchObject({ authenticated: true, permission: "" });
    expect(await raw(url, [])).toMatchObject({ status: 401, reason: "CREDENTIAL_MISSING" });
    expect(roles.requests).toHaveLength(1);
  });

  test("works with the real server, and refuses when that is gone", async () => {
    const [alice, bob] = [await signedIn("orders:read"), await signedIn("orders:write")];
    const url = await running({ gate: gate() });
    const res = await get(url, alice.accessToken);
    expect([res.status, await res.text()]).toEqual([200, alice.name]);
    expect((await get(url, bob.accessToken)).status).toBe(403);
    expect((await get(url, "a.b.c")).status).toBe(401);
    await admin().call("DELETE", `/v1/users/${alice.id}/sessions/${alice.sessionId}`);
    expect((await get(url, alice.accessToken)).status).toBe(401);
  });
});

test("every framework refuses when the server is stopped, and limits calls", async () => {
  const server = await start();
  const { key } = await server.service("shop");
  await server.call("POST", "/v1/limits", {
    name: fresh("few"),
    subject: "SUBJECT_USER",
    permission: "orders:read",
    rate: 4,
    period: "3600s",
  });
  const alice = await server.person("alice", "orders:read");
  const { accessToken } = await server.login(alice.name);
  const g = new Tollgate({ url: server.url, apiKey: key, log: () => {} });
  const urls = await Promise.all(
    Object.values(frameworks).map(async (serve) => services[services.push(await serve({ gate: g })) - 1]?.url ?? ""),
  );
  const statuses = async () => {
    const list: number[] = [];
    for (const url of urls) {
      const res = await fetch(`${url}/orders/42`, { headers: { Authorization: `Bearer ${accessToken}` } });
      list.push(res.status);
      if (res.status === 429) expect(Number(res.headers.get("retry-after"))).toBeGreaterThan(0);
    }
    return list;
  };
  expect(await statuses()).toEqual([200, 200, 200, 200]);
  expect(await statuses()).toEqual([429, 429, 429, 429]);
  await server.stop();
  expect(await statuses()).toEqual([503, 503, 503, 503]);
});

test("protect needs a permission", async () => {
  for (const module of ["express", "fastify", "hono", "fetch"]) {
    const { protect } = await import(`../src/${module}.ts`);
    expect(() => protect(new Roles().gate(), "", () => new Response())).toThrow(TypeError);
  }
});

/** Sends header fields as they are, which fetch would join. */
function raw(url: string, fields: string[]): Promise<{ status: number; reason: string }> {
  const headers = fields.flatMap((field) => [field.slice(0, field.indexOf(":")), field.slice(field.indexOf(":") + 1).trim()]);
  return new Promise((resolve, reject) => {
    const req = httpRequest(`${url}/orders/42`, { headers: ["Host", new URL(url).host, ...headers] }, (res) => {
      let text = "";
      res.on("data", (chunk) => {
        text += chunk;
      });
      res.on("end", () => resolve({ status: res.statusCode ?? 0, reason: text && JSON.parse(text).details[0].debug.reason }));
    });
    req.on("error", reject).end();
  });
}
