// Signing in: what a person meets on the way.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, open, signedIn, signedOut, signIn } from "./harness.js";
import { secondFactor, totp } from "./totp.js";

after(close);

test("a second factor is asked for, and a wrong code refused", async (t) => {
  const { server, page } = await open(t);
  const alice = await server.person("alice", ["administrator"]);
  const { secret, recoveryCodes } = await secondFactor(server, alice);
  await page.goto("/console/signing-keys");
  await page.getByLabel("User name").fill("alice");
  await page.getByLabel("Password").fill(alice.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("Code").fill("000000");
  await page.getByRole("button", { name: "Verify" }).click();
  await page.getByRole("alert").getByText("The code is wrong").waitFor();
  await page.getByLabel("Code").fill(totp(secret, 1)); // this step's was used to turn it on
  await page.getByRole("button", { name: "Verify" }).click();
  await signedIn(page);
  assert.equal(new URL(page.url()).pathname, "/console/signing-keys");

  await page.getByRole("button", { name: /^Account of alice/ }).click();
  await page.getByRole("menuitem", { name: "Sign out everywhere" }).click();
  await signedOut(page);
  await signIn(page, { ...alice, code: recoveryCodes[0] ?? "" });
});

test("too many wrong passwords: how long to wait, counting down", async (t) => {
  const { server, page } = await open(t);
  await server.person("bob");
  for (let i = 0; i < 10; i++) await server.as(undefined, "POST", "/v1/auth/login", { username: "bob", password: "wrong" });
  await page.goto("/console/");
  await page.getByLabel("User name").fill("bob");
  await page.getByLabel("Password").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  const said = page.getByRole("alert");
  await said.getByText(/Wait \d+ (minutes?|seconds?)/).waitFor();
  assert.equal(await page.getByRole("button", { name: "Sign in" }).isDisabled(), true);
});

test("a password that somebody else set is changed first", async (t) => {
  const { server, page } = await open(t);
  await server.call("POST", "/v1/users", { username: "carol", password: "given by somebody", passwordChangeRequired: true });
  await page.goto("/console/");
  await page.getByLabel("User name").fill("carol");
  await page.getByLabel("Password").fill("given by somebody");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Choose a new password" }).waitFor();
  await page.getByLabel("Current password").fill("given by somebody");
  await page.getByLabel("New password", { exact: true }).fill("short");
  await page.getByLabel("New password again").fill("short");
  await page.getByRole("button", { name: "Change it" }).click();
  await page.getByText(/at least 8|8 characters/).first().waitFor();
  await page.getByLabel("New password", { exact: true }).fill("her own, and long");
  await page.getByLabel("New password again").fill("her own, and long");
  await page.getByRole("button", { name: "Change it" }).click();
  await signedOut(page);
  await signIn(page, { username: "carol", password: "her own, and long" });
});

test("who may nothing sees no screen, and is told what is missing", async (t) => {
  const { server, page } = await open(t);
  const dave = await server.person("dave");
  await page.goto("/console/signing-keys");
  await signIn(page, dave);
  await page.getByText("You lack the permission tollgate:signing-keys:read").waitFor();
  assert.equal(await page.getByRole("navigation", { name: "Screens" }).getByRole("link").count(), 0);
});

test("an expired access token is renewed once, and nobody notices", async (t) => {
  const { server, page } = await open(t, { flags: ["--access-token-ttl=30s"] });
  await page.goto("/console/signing-keys");
  await signIn(page, server.admin);
  let refreshes = 0;
  page.on("request", (request) => (refreshes += Number(request.url().endsWith("/session/refresh"))));
  await page.clock.install();
  await page.clock.fastForward(25_000);
  await page.getByRole("link", { name: "Routes" }).click();
  await page.getByRole("heading", { name: "Routes" }).waitFor();
  await page.getByText("There are no routes yet").waitFor();
  assert.equal(refreshes, 1);
});
