import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, test, vi } from "vitest";
import { guard } from "../src/connect.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { Reason } from "../src/gen/tollgate/v1/reason_pb.js";
import type { AuthorizeRequest } from "../src/gen/tollgate/v1/roles_pb.js";
import { Verifier } from "../src/verifier.js";
import { allowed, fault, Roles } from "./fake.js";
import { admin, failure, gate, signedIn } from "./harness.js";
import { messages, shop } from "./shop.js";

const running: { close(): unknown }[] = [];
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(running.splice(0).map((s) => s.close()));
});

async function serving(answer = allowed as (typeof Roles.prototype)["answer"], options = {}, client = {}) {
  const roles = new Roles(answer);
  const service = await shop(roles.gate({ retries: 0, ...client }), options);
  running.push(service);
  return { roles, ...service };
}

const as = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

function refused(error: unknown) {
  expect(error).toBeInstanceOf(ConnectError);
  const e = error as ConnectError;
  return { code: e.code, reason: e.findDetails(ErrorInfoSchema)[0]?.reason, challenge: e.metadata.get("www-authenticate"), e };
}

describe("an RPC", () => {
  test.each(["noGuard", "noRule", "noPermission", "notAuthenticated", "notPublic"])(
    "that says not who may call it is refused: %s",
    async (name) => {
      const { client, passed, roles } = await serving();
      const call = client[name]?.({ id: "alice" }, as("alice")) ?? Promise.resolve();
      expect(refused(await failure(call))).toMatchObject({ code: Code.PermissionDenied, reason: "NO_GUARD" });
      expect([passed, roles.carried]).toEqual([[], []]);
    },
  );

  test("that is public passes without a call to Tollgate", async () => {
    const { client, roles } = await serving();
    expect(await client["menu"]?.({})).toMatchObject({ id: "nobody" });
    expect(roles.carried).toEqual([]);
  });

  test("that needs a permission", async () => {
    const { client, roles } = await serving();
    expect(await client["get"]?.({ id: "user-7" }, as("alice"))).toMatchObject({ id: "alice" });
    expect(roles.requests[0]).toMatchObject({
      permission: "orders:read",
      self: "user-7",
      selfOnly: false,
      resource: "shop.v1.Shop/Get",
      cost: 0n,
      client: { ip: "127.0.0.1" },
    });
  });

  test("that is for people about themselves", async () => {
    const { client, roles } = await serving();
    await client["mine"]?.({ id: "user-7" }, as("alice"));
    expect(roles.requests[0]).toMatchObject({ permission: "mine:read", self: "user-7", selfOnly: true });
  });

  test("that costs as much as its list has entries", async () => {
    const { client, roles } = await serving();
    await client["delete"]?.({ ids: ["1", "2", "3"] }, as("alice"));
    expect(roles.requests[0]).toMatchObject({ permission: "orders:delete", cost: 3n, self: "" });
  });

  test("that takes any good credential", async () => {
    const { client, roles } = await serving();
    await client["me"]?.({}, as("alice"));
    expect(roles.requests[0]).toMatchObject({ authenticated: true, permission: "me:read" });
    expect(refused(await failure(client["me"]?.({}) ?? Promise.resolve()))).toMatchObject({ reason: "CREDENTIAL_MISSING" });
    expect(roles.carried).toEqual([1]);
  });
});

test.each([
  ["CREDENTIAL_REVOKED", Code.Unauthenticated, 'Bearer error="invalid_token"'],
  ["PERMISSION_MISSING", Code.PermissionDenied, 'Bearer error="insufficient_scope"'],
  ["LIMITED", Code.ResourceExhausted, null],
] as const)("a refusal for %s", async (reason, code, challenge) => {
  const { client, passed } = await serving(() => ({
    reason: Reason[reason],
    retryAfter: { seconds: 3n },
    limits: [{ name: "few", limit: 5n }],
  }));
  const error = refused(await failure(client["get"]?.({}, as("alice")) ?? Promise.resolve()));
  expect(error).toMatchObject({ code, reason, challenge });
  if (reason === "LIMITED") {
    expect(error.e.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds).toBe(3n);
    expect([error.e.metadata.get("retry-after"), error.e.metadata.get("ratelimit-policy")]).toEqual(["3", '"few";q=5']);
  }
  expect(passed).toEqual([]);
});

test("no decision lets nothing pass, and says nothing of the cause", async () => {
  const { client, passed } = await serving(() => {
    throw fault(Code.Unauthenticated, "CREDENTIAL_REVOKED");
  });
  const error = refused(await failure(client["get"]?.({}, as("alice")) ?? Promise.resolve()));
  expect(error).toMatchObject({ code: Code.Unavailable, reason: "DEPENDENCY_DOWN", challenge: null });
  expect([error.e.metadata.get("retry-after"), passed]).toEqual(["1", []]);
});

test("two credentials are none", async () => {
  const { client } = await serving((req) => (req.credential.case ? allowed(req) : { reason: Reason.CREDENTIAL_MISSING }));
  const headers = new Headers({ Authorization: "Bearer alice" });
  headers.append("Authorization", "Bearer bob");
  expect(refused(await failure(client["get"]?.({}, { headers }) ?? Promise.resolve()))).toMatchObject({ reason: "CREDENTIAL_INVALID" });
});

test("limits are in the answer", async () => {
  const { client } = await serving(
    (req) =>
      ({ ...(allowed(req) as object), limits: [{ $typeName: "tollgate.v1.LimitStatus", name: "few", limit: 5n, remaining: 4n }] }) as never,
  );
  let header = new Headers();
  await client["get"]?.(
    {},
    {
      ...as("alice"),
      onHeader: (h: Headers) => {
        header = h;
      },
    },
  );
  expect(header.get("ratelimit")).toBe('"few";r=4;t=0');
});

describe("a stream", () => {
  /** Reads a stream until it ends, and returns why. */
  async function end(stream: AsyncIterable<unknown>, each: (n: number) => void = () => {}) {
    let n = 0;
    return failure(
      (async () => {
        for await (const _ of stream) each(++n);
      })(),
    );
  }

  test("is refused before it begins", async () => {
    const { client, passed, roles } = await serving(() => ({ reason: Reason.PERMISSION_MISSING }));
    expect(refused(await end(client.watch({ id: "alice" }, as("alice"))))).toMatchObject({ code: Code.PermissionDenied });
    expect([passed, roles.requests[0]?.self]).toEqual([[], ""]); // its message is not read before
  });

  test("ends when its caller may no longer have it", async () => {
    const { client, roles, ended } = await serving(allowed, { recheckMs: 60 });
    let last = 0;
    const error = end(client.watch({}, as("alice")), (n) => {
      last = n;
    });
    await roles.came(3);
    roles.answer = () => ({ reason: Reason.PERMISSION_MISSING });
    expect(refused(await error)).toMatchObject({ code: Code.PermissionDenied, reason: "PERMISSION_MISSING" });
    expect(roles.requests.map((r) => r.recheck)).toEqual([false, ...Array(roles.requests.length - 1).fill(true)]);
    expect([last, await ended]).toEqual([messages, "Watch"]);
  });

  test("outlasts an outage for so long and no longer", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    const outage = (req: AuthorizeRequest) => {
      if (req.recheck) throw fault(Code.Unavailable, "DEPENDENCY_DOWN");
      return allowed(req);
    };
    const { client, roles } = await serving(outage, { recheckMs: 200 });
    const error = end(client.watch({}, as("alice")));
    await roles.came(3);
    vi.advanceTimersByTime(199);
    await Promise.race([error, roles.came(6)]);
    expect(roles.carried.length).toBe(6); // the fourth may have failed before
    vi.advanceTimersByTime(1);
    expect(refused(await error)).toMatchObject({ code: Code.Unavailable });
    expect(roles.carried.length).toBeLessThan(8);
  });

  test("that ends is checked no more", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { client, roles, ended } = await serving();
    const controller = new AbortController();
    const hungUp = await end(client.watch({}, { ...as("alice"), signal: controller.signal }), (n) => {
      if (n < messages) return;
      expect(vi.getTimerCount()).toBe(1); // of the check
      controller.abort();
    });
    expect(refused(hungUp).code).toBe(Code.Canceled);
    await ended;
    expect([vi.getTimerCount(), roles.carried]).toEqual([0, [1]]);
  });

  test("ends at once when a verifier hears of a revocation", async () => {
    const alice = await signedIn("orders:read");
    const verifier = new Verifier(gate(), { issuer: admin().url, audience: "tollgate" });
    await verifier.ready();
    const service = await shop(verifier, { recheckMs: 3_600_000 });
    running.push(verifier, service);
    const error = await end(service.client.watchMe({}, as(alice.accessToken)), (n) => {
      if (n === 1) void admin().call("DELETE", `/v1/users/${alice.id}/sessions`);
    });
    expect(refused(error)).toMatchObject({ code: Code.Unauthenticated, reason: "CREDENTIAL_REVOKED" });
  });
});

test("works with the real server", async () => {
  const alice = await signedIn("orders:read");
  const service = await shop(gate());
  running.push(service);
  expect(await service.client["get"]?.({}, as(alice.accessToken))).toMatchObject({ id: alice.id });
  expect(await service.client["mine"]?.({ id: alice.id }, as(alice.accessToken))).toMatchObject({ id: alice.id });
  for (const [name, id] of [
    ["delete", ""],
    ["mine", "somebody"],
  ] as const) {
    expect(refused(await failure(service.client[name]?.({ id }, as(alice.accessToken)) ?? Promise.resolve())).code).toBe(
      Code.PermissionDenied,
    );
  }
});

test("refuses a recheck that never comes", () => {
  expect(() => guard(new Roles().gate(), { recheckMs: 0 })).toThrow(TypeError);
});
