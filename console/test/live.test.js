// What changes on the page by itself: events, counts, the end of a session.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, open, signedIn, signedOut, signIn } from "./harness.js";
import { openShop } from "./shop.js";
import { loaded, watching } from "./wait.js";

after(close);

test("a refusal over a limit arrives in the log as it happens", async (t) => {
  const { server, page } = await open(t);
  const shop = await openShop(server);
  await page.goto("/console/audit?action=access.denied");
  await signIn(page, server.admin);
  await page.getByRole("status").getByText("Live").waitFor();
  await page.getByText("No event fits").waitFor();

  for (let i = 0; i < 5; i++) assert.equal((await shop.authorize(shop.people.bob.id, "orders:read")).allowed, true);
  const refused = await shop.authorize(shop.people.bob.id, "orders:read", { resource: "orders/42", client: { userAgent: "shop/2.1", ip: "192.0.2.7" } });
  assert.equal(refused.reason, "REASON_LIMITED");

  const row = page.getByRole("row").filter({ hasText: "limited" });
  await row.waitFor({ timeout: 2000 });
  await row.getByRole("button", { name: /^access.denied/ }).click();
  const detail = page.getByRole("dialog");
  for (const fact of ["bob", "orders/42", "shop/2.1", "192.0.2.7", "orders:read", "denied"]) await detail.getByText(fact, { exact: true }).first().waitFor();
  assert.match(page.url(), /action=access\.denied&event=[0-9a-f-]{36}$/);

  // The address has it all: loaded again, it shows the same.
  await page.reload();
  await page.getByRole("dialog").getByText("shop/2.1").waitFor();
  await page.getByRole("link", { name: "Explain this decision" }).click();
  await page.getByText("A limit that counts this call is used up.").waitFor();
});

test("a paused log holds what comes in", async (t) => {
  const { server, page } = await open(t);
  const shop = await openShop(server);
  await page.goto("/console/audit?action=access.*");
  await signIn(page, server.admin);
  await page.getByRole("status").getByText("Live").waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await shop.authorize(shop.people.bob.id, "tickets:read");
  await page.getByRole("button", { name: "Resume (1 new)" }).click();
  await page.getByRole("row").filter({ hasText: "permission missing" }).waitFor();
});

test("the overview moves", async (t) => {
  const { server, page } = await open(t);
  const shop = await openShop(server);
  await page.goto("/console/");
  await signIn(page, server.admin);
  await page.getByText("Nobody was refused.").waitFor();
  await loaded(page); // it rests between two looks
  const moved = page.locator("svg .moving").first();
  const before = await moved.evaluate((g) => getComputedStyle(g).transform);
  for (let i = 0; i < 7; i++) await shop.authorize(shop.people.alice.id, "orders:write");
  await server.as(undefined, "POST", "/v1/auth/login", { username: "alice", password: "wrong" });
  await page.getByRole("region", { name: "Limits near their end" }).getByText("over").waitFor();
  await page.getByRole("region", { name: "Most refused callers" }).getByRole("link", { name: "alice" }).waitFor();
  await page.getByRole("region", { name: "Failed sign-ins" }).getByText("1", { exact: true }).waitFor();
  await page.waitForFunction((was) => getComputedStyle(document.querySelector("svg .moving") ?? document.body).transform !== was, before);
});

for (const [who, roles] of /** @type {const} */ ([["an administrator", ["administrator"]], ["somebody who may not read the log", []]])) {
  test(`a revoked session signs its browser out within a second: ${who}`, async (t) => {
    const { server, page, context } = await open(t);
    const alice = await server.person("alice", [...roles]);
    await page.goto("/console/signing-keys");
    await Promise.all([roles.length > 0 && watching(page), signIn(page, alice)]);
    await loaded(page); // a page behind another one is not drawn
    const second = await context.newPage();
    await second.goto("/console/routes");
    await signedIn(second);
    await loaded(second);

    const { sessions } = await server.call("GET", `/v1/users/${alice.id}/sessions`);
    await server.call("DELETE", `/v1/users/${alice.id}/sessions/${sessions[0].id}`);
    const revoked = performance.now();
    await Promise.all([signedOut(page, 5000), signedOut(second, 5000)]);
    const took = performance.now() - revoked;
    assert.ok(took < 1000, `it took ${took.toFixed(0)} ms`);
    await page.getByText("Your session has ended").waitFor();

    await signIn(page, alice);
    assert.equal(new URL(page.url()).pathname, "/console/signing-keys");
    await signedIn(second);
  });
}
