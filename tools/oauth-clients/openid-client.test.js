// openid-client, which most Node services use, against a real server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as client from "openid-client";
import { start } from "./server.js";

let server, robot, verifier;

before(async () => {
  server = await start();
  await server.signIn();
  robot = await server.newClient("robot", "orders:read");
  verifier = await server.newClient("verifier", "tollgate:verify");
});

after(() => server?.stop());

const discover = (id, authentication) =>
  client.discovery(new URL(server.url), id, undefined, authentication, {
    algorithm: "oauth2",
    execute: [client.allowInsecureRequests],
  });

for (const [name, authentication] of Object.entries({ basic: client.ClientSecretBasic, post: client.ClientSecretPost })) {
  test(`client credentials and introspection/${name}`, async () => {
    const config = await discover(robot.id, authentication(robot.secret));
    const token = await client.clientCredentialsGrant(config, { scope: "orders:read" });
    assert.ok(token.expiresIn() > 0);
    const asker = await discover(verifier.id, authentication(verifier.secret));
    const found = await client.tokenIntrospection(asker, token.access_token);
    assert.equal(found.active, true);
    assert.equal(found.client_id, robot.id);
  });
}

test("refresh and revocation of a session", async () => {
  const config = await discover("tollgate", client.None());
  const login = await server.signIn();
  const next = await client.refreshTokenGrant(config, login.refreshToken);
  await client.tokenRevocation(config, next.refresh_token);
  await assert.rejects(client.refreshTokenGrant(config, next.refresh_token), { error: "invalid_grant" });
  await server.signIn();
});

test("revocation of a client credentials token", async () => {
  const config = await discover(robot.id, client.ClientSecretBasic(robot.secret));
  const { access_token } = await client.clientCredentialsGrant(config, { scope: "orders:read" });
  await client.tokenRevocation(config, access_token);
  const asker = await discover(verifier.id, client.ClientSecretBasic(verifier.secret));
  assert.equal((await client.tokenIntrospection(asker, access_token)).active, false);
});
