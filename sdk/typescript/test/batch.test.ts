import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { allowed, fault, latch, Roles } from "./fake.js";
import { admin, failure, fresh, gate, recording, signedIn } from "./harness.js";

const call = (credential: string) => ({ credential, permission: "orders:read" });
const numbered = (n: number) => Array.from({ length: n }, (_, i) => `user-${i}`);

/** Answers about "hold" when it is released. */
function holding() {
  const { promise, open } = latch();
  const roles = new Roles(async (req) => {
    if (req.credential.value === "hold") {
      await promise;
    }
    return allowed(req);
  });
  return { roles, release: () => open() };
}

describe("requests", () => {
  test.each([
    ["one by itself", 1, [1]],
    ["those of one tick share one", 7, [7]],
    ["no more than a hundred share one", 250, [100, 100, 50]],
  ])("%s", async (_, calls, carried) => {
    const roles = new Roles();
    const g = roles.gate();
    await Promise.all(numbered(calls).map((name) => g.authorize(call(name))));
    expect(roles.carried).toEqual(carried);
  });

  test("others gather while one is under way, for a millisecond", async () => {
    const { roles, release } = holding();
    const g = roles.gate();
    const held = g.authorize(call("hold"));
    await Promise.resolve();
    const early = numbered(3).map((name) => g.authorize(call(name)));
    await Promise.resolve();
    await Promise.all([...early, g.authorize(call("late"))]);
    expect(roles.carried).toEqual([1, 4]);
    release();
    expect((await held).allowed).toBe(true);
  });

  test("one by itself does not wait", async () => {
    const { roles } = holding();
    const g = roles.gate();
    for (let i = 0; i < 20; i++) {
      await g.authorize(call("alice"));
    }
    expect(roles.carried).toEqual(Array(20).fill(1));
  });

  test.each([
    ["without batching", { batch: false }],
    ["with a credential for each call", { apiKey: undefined, credential: async () => "tg_service" }],
  ])("share nothing %s", async (_, options) => {
    const roles = new Roles();
    const g = roles.gate(options);
    await Promise.all(numbered(5).map((name) => g.authorize(call(name))));
    expect(roles.carried).toEqual([1, 1, 1, 1, 1]);
  });

  test("leave out what could fail or hold up the others", async () => {
    const roles = new Roles();
    const g = roles.gate();
    const apart = [
      { permission: "Orders Read" },
      { permission: "tollgate:users:read" },
      { permission: "a:b", anyOf: ["c:d"] },
      { anyOf: ["a:b", "a:b"] },
      { minRevision: 7n },
      { cost: 2_000_000 },
      { userId: "alice", credential: undefined },
      { context: { tenant: "x".repeat(300) } },
      { resourceAttributes: { text: "x".repeat(9000) } },
    ];
    await Promise.all([
      ...apart.map((other) => g.authorize({ ...call("one"), ...other })),
      ...numbered(4).map((name) => g.authorize(call(name))),
    ]);
    expect(roles.carried.toSorted((a, b) => a - b)).toEqual([...Array(apart.length).fill(1), 4]);
  });
});

describe("answers", () => {
  test("each caller gets their own, also from the real server", async () => {
    const [alice, bob] = [await signedIn("orders:read"), await signedIn("orders:write")];
    const { fetch, calls } = recording();
    const g = gate({ fetch });
    const rounds = Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? alice : bob));
    const decisions = await Promise.all(rounds.map((user) => g.authorize({ credential: user.accessToken, permission: "orders:read" })));
    decisions.forEach((d, i) => {
      expect([d.principal?.userId, d.allowed]).toEqual([rounds[i]?.id, i % 2 === 0]);
    });
    expect(calls).toEqual(["BatchAuthorize"]);
  });

  test("limits count each call of a batch once", async () => {
    const limit = fresh("calls");
    const permission = `x:${fresh("counted")}`;
    await admin().call("POST", "/v1/limits", { name: limit, subject: "SUBJECT_USER", permission, rate: 10, period: "3600s" });
    const alice = await signedIn(permission);
    const g = gate().as(alice.accessToken);
    const decisions = await Promise.all(numbered(12).map(() => g.authorize({ permission })));
    expect(decisions.filter((d) => d.allowed)).toHaveLength(10);
    const refused = decisions.find((d) => !d.allowed);
    expect(refused).toMatchObject({ reason: "LIMITED", limits: [{ name: limit, exceeded: true, remaining: 0 }] });
    expect(refused?.retryAfterMs).toBeGreaterThan(0);
  });

  test("of another number than the questions answer none", async () => {
    const roles = new Roles();
    const g = roles.gate();
    const short = recording(async (input, init) => {
      const res = await roles.fetch(input, init);
      // The answer about one call as that about several: a batch with no responses.
      return new Response(new Uint8Array(), { status: res.status, headers: res.headers });
    });
    const bad = roles.gate({ fetch: short.fetch });
    const results = await Promise.allSettled(numbered(3).map((name) => bad.authorize(call(name))));
    expect(results.every((r) => r.status === "rejected" && r.reason.reason === "INCOMPLETE_ANSWER")).toBe(true);
    expect((await g.authorize(call("alice"))).allowed).toBe(true);
  });
});

describe("failures", () => {
  test("of one call leave the others alone", async () => {
    const roles = new Roles((req) => {
      if (req.credential.value === "user-1") {
        throw fault(Code.Unavailable, "DEPENDENCY_DOWN");
      }
      return allowed(req);
    });
    const g = roles.gate({ retries: 0 });
    const results = await Promise.allSettled(numbered(3).map((name) => g.authorize(call(name))));
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(roles.carried).toEqual([3]);
  });

  test("that may be the fault of another call have each asked by itself", async () => {
    const roles = new Roles((req) => {
      if (req.credential.value === "user-1") {
        throw fault(Code.InvalidArgument, "INVALID_FIELD");
      }
      return allowed(req);
    });
    roles.refuse = () => {
      throw fault(Code.InvalidArgument, "INVALID_FIELD");
    };
    const g = roles.gate();
    const results = await Promise.allSettled(numbered(3).map((name) => g.authorize(call(name))));
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(roles.carried).toEqual([3, 1, 1, 1]);
  });

  test("of all are each caller's own", async () => {
    const roles = new Roles();
    roles.refuse = () => {
      throw fault(Code.Unauthenticated, "CREDENTIAL_REVOKED");
    };
    const g = roles.gate();
    const errors = await Promise.all(numbered(3).map((name) => failure(g.authorize(call(name)))));
    expect(new Set(errors).size).toBe(3);
    expect(errors[0]).toMatchObject({ name: "UnauthenticatedError", reason: "CREDENTIAL_REVOKED" });
    expect(roles.carried).toEqual([3]);
  });

  test("a refused call goes by itself the next time", async () => {
    const roles = new Roles((req) => (req.credential.value === "user-1" ? {} : allowed(req)));
    const g = roles.gate();
    for (const carried of [[3], [3, 1, 2]]) {
      await Promise.all(numbered(3).map((name) => g.authorize(call(name))));
      expect(roles.carried.toSorted()).toEqual(carried.toSorted());
    }
  });
});

describe("deadlines", () => {
  test("end one call and not the others", async () => {
    const { roles, release } = holding();
    const g = roles.gate();
    const controller = new AbortController();
    const [held, left, kept] = [
      g.authorize(call("hold")),
      g.authorize(call("hold"), { signal: controller.signal }),
      g.authorize(call("alice")),
    ];
    await roles.came(1);
    controller.abort();
    expect(await failure(left)).toMatchObject({ code: "canceled" });
    release();
    expect((await held).allowed && (await kept).allowed).toBe(true);
  });

  test("are kept while a call waits, and while it is under way", async () => {
    const { roles } = holding();
    const g = roles.gate({ timeoutMs: 30, retries: 0 });
    const errors = await Promise.all(["hold", "hold"].map((name) => failure(g.authorize(call(name)))));
    expect(errors).toMatchObject([{ code: "deadline_exceeded" }, { code: "deadline_exceeded" }]);
    expect(await failure(g.authorize(call("hold")))).toMatchObject({ name: "UnavailableError", code: "deadline_exceeded" });
  });

  test("end a request that nobody waits for", async () => {
    const aborted = latch();
    const roles = new Roles(async (req, context) => {
      context.signal.addEventListener("abort", () => aborted.open());
      await aborted.promise;
      return allowed(req);
    });
    const g = roles.gate({ timeoutMs: 60_000 });
    const controller = new AbortController();
    const errors = ["a", "b"].map((name) => failure(g.authorize(call(name), { signal: controller.signal })));
    await roles.came(1);
    controller.abort();
    for (const e of await Promise.all(errors)) {
      expect(e).not.toBeInstanceOf(ConnectError);
      expect(e).toMatchObject({ code: "canceled" });
    }
    await aborted.promise;
  });

  test("that are over make no request", async () => {
    const roles = new Roles();
    expect(await failure(roles.gate().authorize(call("a"), { signal: AbortSignal.abort() }))).toMatchObject({ code: "canceled" });
    expect(roles.carried).toEqual([]);
  });
});
