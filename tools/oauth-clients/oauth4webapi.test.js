// oauth4webapi, which checks every answer strictly, against a real server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as oauth from "oauth4webapi";
import { start } from "./server.js";

const http = { [oauth.allowInsecureRequests]: true };
let server, as, robot, verifier;

before(async () => {
  server = await start();
  await server.signIn();
  robot = await server.newClient("robot", "orders:read", "orders:write");
  verifier = await server.newClient("verifier", "tollgate:verify");
  const issuer = new URL(server.url);
  const res = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...http });
  as = await oauth.processDiscoveryResponse(issuer, res);
});

after(() => server?.stop());

const authentications = { basic: oauth.ClientSecretBasic, post: oauth.ClientSecretPost };

async function clientCredentials(who, authentication, scope) {
  const client = { client_id: who.id };
  const res = await oauth.clientCredentialsGrantRequest(as, client, authentication(who.secret), { scope }, http);
  return oauth.processClientCredentialsResponse(as, client, res);
}

async function introspect(token, authentication = oauth.ClientSecretBasic) {
  const client = { client_id: verifier.id };
  const res = await oauth.introspectionRequest(as, client, authentication(verifier.secret), token, http);
  return oauth.processIntrospectionResponse(as, client, res);
}

// A session belongs to the public client "tollgate".
const session = { client_id: "tollgate" };

async function refresh(token) {
  const res = await oauth.refreshTokenGrantRequest(as, session, oauth.None(), token, http);
  return oauth.processRefreshTokenResponse(as, session, res);
}

const refused = (code) => (err) => err instanceof oauth.ResponseBodyError && err.error === code;

test("discovery", () => {
  assert.equal(as.issuer, server.url);
  assert.equal(as.token_endpoint, server.url + "/v1/oauth2/token");
});

for (const [name, authentication] of Object.entries(authentications)) {
  test(`client credentials/${name}`, async () => {
    const token = await clientCredentials(robot, authentication, "orders:read");
    assert.equal(token.token_type, "bearer");
    assert.equal(token.scope, "orders:read");
    const found = await introspect(token.access_token, authentication);
    assert.equal(found.active, true);
    assert.equal(found.client_id, robot.id);
    assert.equal(found.scope, token.scope);
  });

  test(`client credentials/${name}/a wrong secret`, async () => {
    const wrong = { ...robot, secret: robot.secret.slice(0, -1) };
    // A client that authenticates by the header gets a challenge (RFC 6749 §5.2).
    await assert.rejects(clientCredentials(wrong, authentication, "orders:read"), (err) =>
      err instanceof oauth.WWWAuthenticateChallengeError || refused("invalid_client")(err));
  });
}

test("client credentials/a scope beyond the key's", async () => {
  await assert.rejects(clientCredentials(robot, oauth.ClientSecretBasic, "*"), refused("invalid_scope"));
});

test("access tokens are JWTs as RFC 9068 has them", async () => {
  const { access_token } = await clientCredentials(robot, oauth.ClientSecretBasic, "orders:read");
  const request = new Request("https://orders.example/", { headers: { Authorization: `Bearer ${access_token}` } });
  const claims = await oauth.validateJwtAccessToken(as, request, "tollgate", http);
  assert.equal(claims.client_id, robot.id);
});

test("introspection of what is no token", async () => {
  assert.deepEqual(await introspect("x"), { active: false });
});

test("refresh, and reuse of a spent token", async () => {
  const login = await server.signIn();
  const next = await refresh(login.refreshToken);
  assert.notEqual(next.refresh_token, login.refreshToken);
  assert.equal((await introspect(next.access_token)).active, true);
  await assert.rejects(refresh(login.refreshToken), refused("invalid_grant"));
  // The session is over, for the holder of the successor too.
  await assert.rejects(refresh(next.refresh_token), refused("invalid_grant"));
  assert.deepEqual(await introspect(next.access_token), { active: false });
  await server.signIn();
});

test("revocation of a refresh token", async () => {
  const login = await server.signIn();
  for (let i = 0; i < 2; i++) { // revoked or unknown: both are 200 (RFC 7009 §2.2)
    const res = await oauth.revocationRequest(as, session, oauth.None(), login.refreshToken, http);
    await oauth.processRevocationResponse(res);
  }
  assert.deepEqual(await introspect(login.accessToken), { active: false });
  await assert.rejects(refresh(login.refreshToken), refused("invalid_grant"));
  await server.signIn();
});

test("revocation of a client credentials token", async () => {
  const client = { client_id: robot.id };
  const revoke = async (token) =>
    oauth.processRevocationResponse(await oauth.revocationRequest(as, client, oauth.ClientSecretBasic(robot.secret), token, http));
  const { access_token } = await clientCredentials(robot, oauth.ClientSecretBasic, "orders:read");
  const other = await clientCredentials(robot, oauth.ClientSecretBasic, "orders:read");
  assert.equal((await introspect(access_token)).active, true);
  for (const token of [access_token, access_token, "unknown"]) { // all are 200 (RFC 7009 §2.2)
    await revoke(token);
  }
  assert.deepEqual(await introspect(access_token), { active: false });
  assert.equal((await introspect(other.access_token)).active, true);
});
