import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { WatchRevocationsResponseSchema } from "../src/gen/tollgate/v1/auth_pb.js";
import { Reason } from "../src/gen/tollgate/v1/reason_pb.js";
import { Verifier } from "../src/verifier.js";
import { latch, Roles } from "./fake.js";
import { admin, failure, fresh, gate, recording, signedIn } from "./harness.js";
import { Issuer, newPair, type Pair } from "./issuer.js";
import { start } from "./server.js";

let pair: Pair;
beforeAll(async () => {
  pair = await newPair("EdDSA", "ed");
});

const running: Verifier[] = [];
afterEach(() => {
  for (const v of running.splice(0)) v.close();
  vi.useRealTimers();
});

async function warm(options: Parameters<Issuer["verifier"]>[0] = {}, client: Parameters<Issuer["verifier"]>[1] = {}) {
  const source = new Issuer(pair);
  const verifier = source.verifier(options, client);
  running.push(verifier);
  await verifier.ready();
  return { source, verifier, reason: async (claims = {}) => (await verifier.verify(await source.token(claims))).reason };
}

describe("the real server", () => {
  async function real(options = {}) {
    const wire = recording();
    const g = gate({ fetch: wire.fetch });
    const verifier = new Verifier(g, { issuer: admin().url, audience: "tollgate", ...options });
    running.push(verifier);
    await verifier.ready();
    return { verifier, calls: wire.calls };
  }

  test("a revoked token is refused here as soon as the feed has told", async () => {
    const alice = await signedIn("orders:read");
    const { verifier, calls } = await real();
    expect(await verifier.verify(alice.accessToken)).toMatchObject({
      active: true,
      principal: { userId: alice.id, sessionId: expect.stringMatching(/./) },
    });
    const { revision } = await admin().call("DELETE", `/v1/users/${alice.id}/sessions`);
    await verifier.ready(BigInt(revision));
    expect((await verifier.verify(alice.accessToken)).reason).toBe("CREDENTIAL_REVOKED");
    expect(calls.toSorted()).toEqual(["WatchRevocations", "jwks.json"]); // nobody was asked
  });

  test("ready waits for a revision, and users and keys are known", async () => {
    const alice = await signedIn("orders:read");
    const { verifier } = await real({ failClosed: true });
    const { revision } = await admin().call("PATCH", `/v1/users/${alice.id}`, { disabled: true });
    await verifier.ready(BigInt(revision));
    expect((await verifier.verify(alice.accessToken)).active).toBe(false);
    const { key, keyId } = await admin().service(fresh("robot"));
    expect((await verifier.verify(key)).active).toBe(true);
    await admin().call("DELETE", `/v1/api-keys/${keyId}`);
    expect((await verifier.verify(key)).reason).toBe("CREDENTIAL_REVOKED");
  });

  test("when it is gone, a token is not accepted", async () => {
    const server = await start();
    const { key } = await server.service("shop");
    const { accessToken } = await server.login((await server.person("alice", "a:b")).name);
    vi.useFakeTimers({ toFake: ["performance", "Date"] });
    const lost = [latch(), latch()];
    const verifiers = lost.map((feed, i) => {
      const client = gate({ url: server.url, apiKey: key, log: () => feed.open() });
      return new Verifier(client, { issuer: server.url, audience: "tollgate", feedBoundMs: 3000, failClosed: i === 1 });
    });
    running.push(...verifiers);
    for (const v of verifiers) {
      await v.ready();
      expect((await v.verify(accessToken)).active).toBe(true);
    }
    await server.stop();
    await Promise.all(lost.map((feed) => feed.promise));
    vi.advanceTimersByTime(3001);
    for (const v of verifiers) {
      expect(await failure(v.verify(accessToken))).toMatchObject({ name: "UnavailableError" });
    }
  });
});

test.each([
  ["a session", { sessionIds: ["session-1"] }, "CREDENTIAL_REVOKED"],
  ["a token", { tokenIds: ["token-1"] }, "CREDENTIAL_REVOKED"],
  ["a user", { userIds: ["user-alice"] }, "USER_DISABLED"],
  ["others", { sessionIds: ["token-1"], tokenIds: ["session-1"], userIds: ["session-1"], apiKeyIds: ["user-alice"] }, "OK"],
])("knows that %s was revoked", async (_, message, reason) => {
  const { source, verifier, reason: got } = await warm();
  source.tell({ ...message, revision: 2n });
  await verifier.ready(2n);
  expect(await got()).toBe(reason);
});

test("a user who was restored", async () => {
  const { source, verifier, reason } = await warm();
  source.tell({ userIds: ["user-alice"], revision: 2n });
  source.tell({ restoredUserIds: ["user-alice"], revision: 3n });
  await verifier.ready(3n);
  expect(await reason()).toBe("OK");
});

test("a feed that is lost comes back, and forgets nothing in an older snapshot", async () => {
  const { source, verifier, reason } = await warm();
  source.tell({ sessionIds: ["session-1"], revision: 5n });
  await verifier.ready(5n);
  source.begin({ snapshot: true, revision: 3n }, { revision: 6n }); // from an instance that lags
  source.break();
  await verifier.ready(6n);
  expect(source.streams).toBe(2);
  expect(await reason()).toBe("CREDENTIAL_REVOKED");
  source.begin({ snapshot: true, revision: 7n });
  source.break();
  await verifier.ready(7n);
  expect(await reason()).toBe("OK");
});

test("a stream that does not begin with a snapshot says nothing", async () => {
  const source = new Issuer(pair);
  source.begin({ revision: 1n });
  const verifier = source.verifier({ failClosed: true });
  running.push(verifier);
  await source.followed(2);
  expect(await failure(verifier.verify(await source.token()))).toMatchObject({ name: "UnavailableError" });
});

test.each([1, 5, 7, 8, 11])("a message of more than 32 MiB is not read (cut after %i bytes)", async (cut) => {
  const snapshot = toBinary(WatchRevocationsResponseSchema, create(WatchRevocationsResponseSchema, { snapshot: true }));
  const bytes = Uint8Array.of(0, 0, 0, 0, snapshot.length, ...snapshot, 0, 2, 0, 0, 1);
  const [canceled, logged] = [latch(), latch<unknown>()];
  const source = new Issuer(pair);
  const body = () =>
    new ReadableStream<Uint8Array>({
      start: (out) => [bytes.subarray(0, cut), bytes.subarray(cut)].forEach((part) => void out.enqueue(part)),
      cancel: () => canceled.open(),
    });
  const fetch: typeof globalThis.fetch = async (input, init) =>
    String(input).includes("WatchRevocations")
      ? new Response(body(), { headers: { "Content-Type": "application/connect+proto" } })
      : source.fetch(input, init);
  running.push(source.verifier({}, { fetch, log: (_, e) => logged.open(e) }));
  expect(await logged.promise).toMatchObject({ message: expect.stringContaining("more than 32 MiB") });
  await canceled.promise;
});

describe("a feed that is silent", () => {
  test("for longer than its bound has Tollgate asked, or fails", async () => {
    vi.useFakeTimers({ toFake: ["performance", "Date"] });
    for (const failClosed of [false, true]) {
      const { source, verifier } = await warm({ failClosed, feedBoundMs: 3000 });
      const token = await source.token();
      vi.advanceTimersByTime(2999);
      expect((await verifier.verify(token)).principal?.userId).toBe("user-alice");
      vi.advanceTimersByTime(2);
      if (failClosed) {
        expect(await failure(verifier.verify(token))).toMatchObject({ name: "UnavailableError" });
      } else {
        expect((await verifier.verify(token)).principal?.userId).toBe("asked");
      }
      verifier.close();
    }
  });

  test("is old by the clock on the wall as well", async () => {
    let time = Date.now();
    const { source, verifier } = await warm({ failClosed: true, feedBoundMs: 3000 }, { now: () => time });
    const token = await source.token();
    time += 3001; // the machine slept
    expect(await failure(verifier.verify(token))).toMatchObject({ name: "UnavailableError" });
    time -= 10_000; // its clock was set back
    expect((await verifier.verify(token)).active).toBe(true);
  });

  test("is begun anew", async () => {
    const { source } = await warm({ feedBoundMs: 1001 });
    await source.followed(2);
  });
});

describe("authorize", () => {
  /** A verifier whose Tollgate answers calls to authorize, too. */
  async function reporting(answer?: ConstructorParameters<typeof Roles>[0]) {
    const source = new Issuer(pair);
    const roles = new Roles(answer);
    const fetch: typeof globalThis.fetch = (input, init) =>
      String(input).includes("RolesService") ? roles.fetch(input, init) : source.fetch(input, init);
    const verifier = source.verifier({}, { fetch });
    running.push(verifier);
    await verifier.ready();
    const ask = async (credential: string, ip = "192.0.2.7", more = {}) =>
      verifier.authorize({ credential, authenticated: true, ip, ...more });
    return { source, roles, verifier, ask };
  }

  test("lets a good token pass without a call, and asks about permissions", async () => {
    const { source, roles, ask, verifier } = await reporting();
    const token = await source.token();
    expect(await ask(token)).toMatchObject({ allowed: true, reason: "OK", principal: { userId: "user-alice" } });
    expect(await ask("")).toMatchObject({ allowed: false, reason: "CREDENTIAL_MISSING" });
    expect(roles.carried).toEqual([]);
    await verifier.authorize({ credential: token, permission: "orders:read" });
    await ask("tg_key");
    expect(roles.requests.map((r) => r.permission)).toEqual(["orders:read", ""]);
  });

  test("reports bad credentials at a bounded rate, and never allows one", async () => {
    const { source, roles, ask } = await reporting();
    for (let i = 0; i < 30; i++) {
      expect(await ask(`bad.${i}.token`)).toMatchObject({ allowed: false, reason: "CREDENTIAL_INVALID" });
    }
    expect(roles.carried).toHaveLength(10);
    for (let i = 0; i < 30; i++) {
      await ask(`bad.${i}.token`, `2001:db8::${i}`); // one host
    }
    expect(roles.carried).toHaveLength(20);
    expect(await ask(await source.token({ exp: 1_700_000_060, iat: 1_700_000_000 }), "192.0.2.8")).toMatchObject({
      allowed: false,
      reason: "CREDENTIAL_EXPIRED",
    });
    expect(await ask("no token, is it?", "192.0.2.9")).toMatchObject({ allowed: false, reason: "CREDENTIAL_INVALID" });
  });

  test("holds off an address that is over a limit", async () => {
    const { roles, ask } = await reporting(() => ({ reason: Reason.LIMITED, retryAfter: { seconds: 30n } }));
    expect(await ask("bad.bad.token")).toMatchObject({ allowed: false, reason: "LIMITED", retryAfterMs: 30_000 });
    expect(await ask("bad.bad.token")).toMatchObject({ allowed: false, reason: "LIMITED" });
    expect(roles.carried).toEqual([1]);
  });

  test("refuses when nobody counts it", async () => {
    const { ask } = await reporting(() => {
      throw new Error("down");
    });
    expect(await ask("bad.bad.token", "192.0.2.7", {})).toMatchObject({ allowed: false, reason: "CREDENTIAL_INVALID" });
  });
});
