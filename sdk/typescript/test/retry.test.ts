import { Code } from "@connectrpc/connect";
import { afterEach, describe, expect, test, vi } from "vitest";
import { allowed, fault, Roles } from "./fake.js";
import { admin, failure, fresh, gate, recording } from "./harness.js";

afterEach(() => void vi.useRealTimers());

const refused = Object.assign(new TypeError("fetch failed"), { cause: Object.assign(new Error("connect"), { code: "ECONNREFUSED" }) });
const reset = Object.assign(new TypeError("fetch failed"), { cause: Object.assign(new Error("read"), { code: "ECONNRESET" }) });

/** Fails with each error in turn, after the server has answered. */
function losing(next: typeof fetch, ...errors: Error[]): typeof fetch {
  return async (input, init) => {
    const res = await next(input, init);
    const error = errors.shift();
    if (error) {
      await res.arrayBuffer();
      throw error;
    }
    return res;
  };
}

/** Loses the connection in the middle of the first answer. */
function breaking(next: typeof fetch): typeof fetch {
  let whole = false;
  return async (input, init) => {
    const res = await next(input, init);
    if (whole) {
      return res;
    }
    whole = true;
    const body = new ReadableStream({ start: (c) => c.error(new TypeError("terminated")) });
    return new Response(body, { status: res.status, headers: res.headers });
  };
}

async function limited(): Promise<{ limit: string; permission: string }> {
  const limit = fresh("calls");
  const permission = `x:${limit}`;
  await admin().call("POST", "/v1/limits", {
    name: limit,
    subject: "SUBJECT_CUSTOM",
    contextKey: "tenant",
    permission,
    rate: 100,
    period: "86400s",
  });
  return { limit, permission };
}

describe("an answer that is lost", () => {
  test.each([
    ["at the connection", (next: typeof fetch) => losing(next, reset, reset)],
    ["in its middle", breaking],
  ])("%s does not count twice", async (_, lose) => {
    const { limit, permission } = await limited();
    const user = await admin().person(fresh("alice"), permission);
    const credential = (await admin().login(user.name)).accessToken;
    const lossy = recording(lose(fetch));
    const d = await gate({ fetch: lossy.fetch }).authorize({ credential, permission, context: { tenant: "acme" } });
    expect(d).toMatchObject({ allowed: true, limits: [{ name: limit, remaining: 99 }] });
    expect(lossy.calls.length).toBeGreaterThan(1);

    const again = recording(lose(fetch));
    const g = gate({ fetch: again.fetch });
    expect(await g.checkLimit(limit, "acme", { cost: 10 })).toMatchObject({ allowed: true, status: { remaining: 89 } });
    expect(again.calls.length).toBeGreaterThan(1);
    expect((await g.checkLimit(limit, "acme", { peek: true })).status.remaining).toBe(89);
  });

  test("of a batch does not count twice", async () => {
    const { limit, permission } = await limited();
    const user = await admin().person(fresh("alice"), permission);
    const bound = gate({ fetch: losing(fetch, reset) }).as((await admin().login(user.name)).accessToken);
    await Promise.all([1, 2, 3].map(() => bound.authorize({ permission, context: { tenant: "acme" } })));
    expect((await gate().checkLimit(limit, "acme", { peek: true })).status.remaining).toBe(97);
  });

  test("of an event is not asked for again", async () => {
    const action = `order.pay-${fresh("x")}`;
    const lossy = recording(losing(fetch, reset));
    expect(await failure(gate({ fetch: lossy.fetch }).recordEvent({ action, outcome: "SUCCESS" }))).toMatchObject({
      name: "UnavailableError",
    });
    expect(lossy.calls).toHaveLength(1);
    expect(await admin().events(action)).toHaveLength(1);
  });
});

describe("a call is made again", () => {
  const call = { credential: "alice", permission: "orders:read" };

  test.each([
    ["when it did not reach Tollgate", refused, 2],
    ["when the connection broke", reset, 2],
  ])("%s", async (_, error, times) => {
    const roles = new Roles();
    const lossy = recording(losing(roles.fetch, error));
    await roles.gate({ fetch: lossy.fetch }).authorize(call);
    expect(lossy.calls).toHaveLength(times);
    expect(new Set(roles.requests.map((r) => r.idempotencyKey)).size).toBe(1);
    expect(roles.requests[0]?.idempotencyKey).toMatch(/.{10}/);
  });

  test.each([
    [Code.Unavailable, "OVERLOADED", 10, 3],
    [Code.Unavailable, "OVERLOADED", 0, 1],
    [Code.Unavailable, "DEPENDENCY_DOWN", 0, 3],
    [Code.Internal, "INTERNAL", 0, 1],
    [Code.InvalidArgument, "INVALID_FIELD", 0, 1],
    [Code.ResourceExhausted, "LIMITED", 10, 1],
  ])("after %s %s with %s ms: %s requests", async (code, reason, retryAfterMs, times) => {
    const roles = new Roles(() => {
      throw fault(code, reason, retryAfterMs);
    });
    expect(await failure(roles.gate().authorize(call))).toMatchObject({ reason });
    expect(roles.carried).toHaveLength(times);
  });

  test("under another key when it is another call", async () => {
    const roles = new Roles();
    const g = roles.gate();
    await Promise.all([g.authorize(call), g.authorize(call)]);
    await g.authorize({ ...call, recheck: true });
    const keys = roles.requests.map((r) => r.idempotencyKey);
    expect(new Set(keys).size).toBe(3);
    expect(keys[2]).toBe("");
  });

  test("no later than its deadline", async () => {
    const roles = new Roles(() => {
      throw fault(Code.Unavailable, "DRAINING", 3000);
    });
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }); // nothing that waits ends
    expect(await failure(roles.gate({ timeoutMs: 1000 }).authorize(call))).toMatchObject({ reason: "DRAINING", retryAfterMs: 3000 });
    expect(roles.carried).toEqual([1]);
  });

  test("not when retries are off", async () => {
    const roles = new Roles(() => {
      throw fault(Code.Unavailable, "DEPENDENCY_DOWN");
    });
    await failure(roles.gate({ retries: 0 }).authorize(call));
    expect(roles.requests.map((r) => r.idempotencyKey)).toEqual([""]);
  });

  test("a tenth more often in an outage", async () => {
    const roles = new Roles((req) => {
      if (req.credential.value === "down") {
        throw fault(Code.Unavailable, "DEPENDENCY_DOWN");
      }
      return allowed(req);
    });
    const g = roles.gate({ batch: false });
    await Promise.all(Array.from({ length: 50 }, () => failure(g.authorize({ ...call, credential: "down" }))));
    expect(roles.carried).toHaveLength(60);
    for (let i = 0; i < 21; i++) {
      await g.authorize(call);
    }
    await failure(g.authorize({ ...call, credential: "down" }));
    expect(roles.carried).toHaveLength(60 + 21 + 3);
  });
});

test("redirects are refused, and get no credential", async () => {
  const seen: string[] = [];
  const fetch: typeof globalThis.fetch = async (input, init) => {
    seen.push(String(input));
    expect(init?.redirect).toBe("manual");
    return new Response(null, { status: 307, headers: { Location: "https://elsewhere.test" } });
  };
  expect(await failure(gate({ fetch }).verify("a.b.c"))).toMatchObject({ code: "failed_precondition" });
  expect(seen).toHaveLength(1);
});

test.each([
  ["with its length", { "Content-Length": String(2 << 20) }],
  ["without", {}],
])("an answer that is too large fails (%s)", async (_, length) => {
  const headers = { "Content-Type": "application/proto", ...length };
  const fetch = async () => new Response(new Uint8Array(2 << 20), { headers });
  expect(await failure(gate({ fetch }).verify("a.b.c"))).toMatchObject({ message: expect.stringContaining("1 MiB") });
});

test("what gives the credential may fail, and says nothing of it", async () => {
  const roles = new Roles();
  const sources = [() => Promise.reject(new Error("hunter2")), () => "hunter2 with a space", () => "" as string];
  for (const credential of sources) {
    const e = await failure(roles.gate({ apiKey: undefined, credential }).authorize({ permission: "a:b" }));
    expect(e).toMatchObject({ name: "UnauthenticatedError", message: expect.not.stringContaining("hunter2") });
  }
  expect(roles.carried).toEqual([]);
});
