import { createHmac } from "node:crypto";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { Verifier } from "../src/verifier.js";
import { failure } from "./harness.js";
import { type Algorithm, goodClaims, Issuer, issuer, joined, newPair, type Pair } from "./issuer.js";

let pairs: Record<Algorithm, Pair>;
beforeAll(async () => {
  pairs = { EdDSA: await newPair("EdDSA", "ed"), ES256: await newPair("ES256", "es"), RS256: await newPair("RS256", "rs") };
});

const running: Verifier[] = [];
afterEach(() => {
  for (const v of running.splice(0)) v.close();
  vi.useRealTimers();
});

/** Returns an issuer with a warm verifier. */
async function warm(
  options: Parameters<Issuer["verifier"]>[0] = {},
  client: Parameters<Issuer["verifier"]>[1] = {},
  algorithm: Algorithm = "EdDSA",
) {
  const source = new Issuer(pairs[algorithm]);
  const verifier = source.verifier(options, client);
  running.push(verifier);
  await verifier.ready();
  return { source, verifier };
}

const bad = { active: false, reason: "CREDENTIAL_INVALID", principal: undefined };

describe.each<Algorithm>(["EdDSA", "ES256", "RS256"])("%s", (algorithm) => {
  test("accepts a token, without a call", async () => {
    const { source, verifier } = await warm({}, {}, algorithm);
    const claims = { amr: ["pwd", "otp"], auth_time: 1_700_000_000 };
    for (let i = 0; i < 3; i++) {
      expect(await verifier.verify(await source.token(claims))).toMatchObject({
        active: true,
        reason: "OK",
        revision: 1n,
        principal: {
          userId: "user-alice",
          sessionId: "session-1",
          apiKeyId: "",
          audience: "shop",
          amr: ["pwd", "otp"],
          roles: [],
          username: "",
        },
      });
    }
    expect([source.fetches, source.asked]).toEqual([1, 0]);
  });

  test("refuses one that was changed", async () => {
    const { source, verifier } = await warm({}, {}, algorithm);
    const token = await source.token();
    const [header = "", payload = "", signature = ""] = token.split(".");
    const other = joined({}, { ...goodClaims(), sub: "user-bob" }).split(".")[1];
    const flipped = `${signature[0] === "A" ? "B" : "A"}${signature.slice(1)}`;
    for (const changed of [
      `${header}.${other}.${signature}`,
      `${header}.${payload}.${flipped}`,
      `${header}.${payload}.`,
      `${header}.${payload}`,
      `${token}.`,
      `${token}=`,
      ` ${token}`,
    ]) {
      const found = await verifier.verify(changed);
      expect(found.active && source.asked === 0).toBe(false);
    }
  });

  test("refuses the signature of another key, whatever the header says", async () => {
    const { source, verifier } = await warm({}, {}, algorithm);
    const stranger = await newPair(algorithm, source.pair.id);
    expect(await verifier.verify(await source.token({}, {}, stranger))).toMatchObject(bad);
    for (const pair of Object.values(pairs).filter((p) => p.algorithm !== algorithm)) {
      source.keys = [source.pair.jwk, pair.jwk];
      expect(await verifier.verify(await source.token({}, { kid: source.pair.id }, pair))).toMatchObject(bad);
    }
  });
});

test("no algorithm, and none that a public key is the secret of", async () => {
  const { source, verifier } = await warm({}, {}, "RS256");
  const header = { kid: "rs", typ: "at+jwt" };
  expect(await verifier.verify(joined({ ...header, alg: "none" }, goodClaims(), new Uint8Array(1)))).toMatchObject(bad);
  const unsigned = joined({ ...header, alg: "HS256" }, goodClaims())
    .split(".")
    .slice(0, 2)
    .join(".");
  for (const secret of [JSON.stringify(source.pair.jwk), source.pair.jwk.n ?? ""]) {
    expect(await verifier.verify(`${unsigned}.${createHmac("sha256", secret).update(unsigned).digest("base64url")}`)).toMatchObject(bad);
  }
});

const now = Math.floor(Date.now() / 1000);
test.each<[string, Record<string, unknown>]>([
  ["another issuer", { iss: "https://elsewhere.test" }],
  ["the issuer with a slash", { iss: `${issuer}/` }],
  ["no issuer", { iss: undefined }],
  ["no subject", { sub: undefined }],
  ["an empty subject", { sub: "" }],
  ["a number as its subject", { sub: 7 }],
  ["no id", { jti: undefined }],
  ["no client", { client_id: undefined }],
  ["no session", { sid: undefined }],
  ["a session and a key", { api_key_id: "key-1" }],
  ["scopes without a key", { scope: "a:b" }],
  ["no scopes in its scope", { api_key_id: "key-1", sid: undefined, scope: " " }],
  ["a list of audiences", { aud: ["shop"] }],
  ["no end", { exp: undefined }],
  ["an end as text", { exp: String(now + 60) }],
  ["a fraction", { exp: now + 60.5 }],
  ["no beginning", { iat: undefined }],
  ["an end before its beginning", { iat: now, exp: now }],
  ["a beginning in the future", { iat: now + 125, exp: now + 300 }],
  ["nbf in the future", { nbf: now + 125 }],
  ["amr as text", { amr: "pwd" }],
  ["auth_time as text", { auth_time: "now" }],
  ["a flag as text", { password_change: "false" }],
])("refuses a token with %s", async (_, claims) => {
  const { source, verifier } = await warm();
  expect(await verifier.verify(await source.token(claims))).toMatchObject(bad);
});

test.each<[string, Record<string, unknown>]>([
  ["another type", { typ: "JWT" }],
  ["the type of an assertion", { typ: "tollgate-assertion+jwt" }],
  ["no type", { typ: undefined }],
  ["no key", { kid: undefined }],
  ["a key that does not exist", { kid: "other" }],
  ["a key of its own", { jwk: { kty: "oct", k: "AAAA" } }],
  ["an address of a key", { jku: "https://elsewhere.test" }],
])("refuses a token whose header has %s", async (_, header) => {
  const { source, verifier } = await warm();
  expect(await verifier.verify(await source.token({}, header))).toMatchObject(bad);
});

test.each<[string, Record<string, unknown>, string]>([
  ["for another service", { aud: "other" }, "WRONG_AUDIENCE"],
  ["that has expired", { iat: now - 60, exp: now - 1 }, "CREDENTIAL_EXPIRED"],
  ["older than tokens get", { iat: now - 3601, exp: now + 3600 }, "CREDENTIAL_EXPIRED"],
  ["of a user who needs a new password", { password_change: true }, "PASSWORD_CHANGE_REQUIRED"],
])("refuses a token %s", async (_, claims, reason) => {
  const { source, verifier } = await warm({ accessTokenTtlMs: 3_600_000 });
  expect(await verifier.verify(await source.token(claims))).toMatchObject({ active: false, reason, principal: undefined });
});

test("a token that is remembered ends as well", async () => {
  let time = Date.now();
  const { source, verifier } = await warm({ feedBoundMs: 2 ** 31 - 1 }, { now: () => time });
  const token = await source.token();
  expect((await verifier.verify(token)).active).toBe(true);
  time += 61_000;
  expect((await verifier.verify(token)).reason).toBe("CREDENTIAL_EXPIRED");
});

test("a token that a key was traded for", async () => {
  const { source, verifier } = await warm();
  const claims = { api_key_id: "key-1", sid: undefined, scope: "orders:read orders:write" };
  const token = await source.token(claims);
  expect((await verifier.verify(token)).principal).toMatchObject({
    apiKeyId: "key-1",
    sessionId: "",
    scopes: ["orders:read", "orders:write"],
  });
  source.tell({ apiKeyIds: ["key-1"], revision: 2n });
  await verifier.ready(2n);
  expect((await verifier.verify(token)).reason).toBe("CREDENTIAL_REVOKED");
});

test("asks Tollgate about an API key", async () => {
  const { source, verifier } = await warm();
  expect((await verifier.verify("tg_key")).principal?.userId).toBe("asked");
  expect(source.asked).toBe(1);
});

describe("keys", () => {
  test("that a token names are fetched, at a bounded rate", async () => {
    vi.useFakeTimers({ toFake: ["performance", "Date"] });
    const { source, verifier } = await warm();
    const next = await newPair("EdDSA", "next");
    const token = await source.token({}, {}, next);
    expect(await verifier.verify(token)).toMatchObject(bad); // too soon after the first fetch
    source.keys = [source.pair.jwk, next.jwk];
    vi.advanceTimersByTime(5001);
    expect((await verifier.verify(token)).active).toBe(true);
    for (let i = 0; i < 20; i++) {
      expect(await verifier.verify(await source.token({}, { kid: `k${i}` }))).toMatchObject(bad);
    }
    expect(source.fetches).toBe(2);
  });

  test("that leave the set verify no more when it is fetched again", async () => {
    vi.useFakeTimers({ toFake: ["performance", "Date"] });
    const { source, verifier } = await warm({ feedBoundMs: 2 ** 31 - 1 });
    const token = await source.token({ exp: goodClaims().exp + 3600 });
    expect((await verifier.verify(token)).active).toBe(true);
    source.keys = [(await newPair("EdDSA", "next")).jwk];
    vi.advanceTimersByTime(11 * 60_000);
    expect(await verifier.verify(token)).toMatchObject(bad);
  });

  test("that cannot be fetched are used for so long and no longer", async () => {
    vi.useFakeTimers({ toFake: ["performance", "Date"] });
    const { source, verifier } = await warm({ feedBoundMs: 2 ** 31 - 1, staleKeysMs: 3_600_000 });
    const token = await source.token({ exp: goodClaims().exp + 36_000 });
    source.keys = new TypeError("down");
    vi.advanceTimersByTime(3_590_000);
    expect((await verifier.verify(token)).active).toBe(true);
    vi.advanceTimersByTime(20_000);
    expect(await failure(verifier.verify(token))).toMatchObject({ name: "UnavailableError" });
  });

  test("that were removed are never taken again", async () => {
    vi.useFakeTimers({ toFake: ["performance", "Date"] });
    const source = new Issuer(pairs.EdDSA);
    source.keys = [pairs.EdDSA.jwk, pairs.ES256.jwk];
    const verifier = source.verifier();
    running.push(verifier);
    await verifier.ready();
    const [token, other] = [await source.token(), await source.token({}, {}, pairs.ES256)];
    expect((await verifier.verify(token)).active).toBe(true);
    source.tell({ signingKeyIds: ["ed"], revision: 2n });
    await verifier.ready(2n);
    expect(await verifier.verify(token)).toMatchObject(bad);
    vi.advanceTimersByTime(6000);
    expect(await verifier.verify(token)).toMatchObject(bad); // fetched again, and still in the set
    expect(source.fetches).toBe(2);
    expect((await verifier.verify(other)).active).toBe(true);
  });

  test("of a set that says nothing leave the tokens unknown", async () => {
    for (const keys of [
      [],
      ["text"],
      [pairs.EdDSA.jwk, pairs.EdDSA.jwk],
      [{ ...pairs.EdDSA.jwk, alg: "ES256" }],
      [{ ...pairs.EdDSA.jwk, use: "enc" }],
      [{ kty: "oct", k: "AAAA", kid: "ed", alg: "HS256" }],
    ]) {
      const source = new Issuer(pairs.EdDSA);
      source.keys = keys;
      const verifier = source.verifier();
      running.push(verifier);
      expect(await failure(verifier.verify(await source.token()))).toMatchObject({ name: "UnavailableError" });
    }
  });
});

test.each([
  [{ issuer: "" }, "issuer"],
  [{ audience: "" }, "audience"],
  [{ feedBoundMs: 1000 }, "feedBoundMs"],
  [{ accessTokenTtlMs: 25 * 3_600_000 }, "accessTokenTtlMs"],
  [{ staleKeysMs: 1000 }, "staleKeysMs"],
])("refuses the options %j", (options, name) => {
  const make = () => new Verifier(new Issuer(pairs.EdDSA).gate(), { issuer, audience: "shop", ...options });
  expect(make).toThrow(TypeError);
  expect(make).toThrow(name);
});

test("answers nothing when it is closed", async () => {
  const { source, verifier } = await warm();
  const token = await source.token();
  expect((await verifier.verify(token)).active).toBe(true);
  verifier.close();
  for (const call of [
    verifier.verify(token),
    verifier.verify("tg_key"),
    verifier.ready(99n),
    verifier.authorize({ credential: token, authenticated: true }),
  ]) {
    expect(await failure(call)).toMatchObject({ name: "UnavailableError" });
  }
});
