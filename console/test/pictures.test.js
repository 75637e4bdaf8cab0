// The pictures of the docs. With UPDATE=1 they are written, after some minutes of traffic;
// without, the same pages are looked at after a little of it.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { after, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { close, open, shoot, signIn } from "./harness.js";
import { openShop } from "./shop.js";
import { loaded } from "./wait.js";

after(close);

const update = process.env.UPDATE === "1";

/** Four waves a second, or a few at once. */
const waves = update ? 640 : 4;

/** @template T @param {readonly T[]} list @param {number} n @returns {T} */
const pick = (list, n) => /** @type {T} */ (list[n % list.length]);

/** Calls of a shop's customers and staff, in waves. @param {import("./shop.js").Shop} shop @param {import("./server.js").Server} server */
async function traffic(shop, server) {
  const { alice, bob } = shop.people;
  for (let i = 0; i < waves; i++) {
    const calls = Array.from({ length: Math.round(7 + 4 * Math.sin(i / 7)) }, (_, n) => {
      const seed = i * 7 + n * 3;
      const user = pick([alice.id, bob.id, alice.id], seed);
      const permission = pick(["tickets:read", "catalog:read", "catalog:read", "catalog:search", "catalog:read", "orders:refund", "catalog:read"], seed);
      return shop.authorize(user, permission, { resource: `items/${40 + (seed % 9)}`, client: { ip: "192.0.2.10", userAgent: "shop/2.1" } });
    });
    if (i % 6 === 0) calls.push(shop.authorize(alice.id, "orders:write", { resource: "orders/42" }), shop.authorize(bob.id, "orders:read", { resource: "orders/7" }));
    await Promise.all(calls);
    if (i % 60 === 20) await server.as(undefined, "POST", "/v1/auth/login", { username: "bob", password: "wrong" });
    if (update) await setTimeout(250);
  }
}

test("the docs' pictures", { timeout: 290_000 }, async (t) => {
  const { server, page } = await open(t, { context: { viewport: { width: 1280, height: 800 }, colorScheme: "light" } });
  const shop = await openShop(server);
  await server.call("POST", "/v1/roles", { name: "catalog", description: "Everybody may look at the catalog", permissions: ["catalog:*"] });
  for (const { id } of Object.values(shop.people)) await server.call("PUT", `/v1/roles/catalog/members/${id}`, {});
  await page.goto("/console/");
  await signIn(page, server.admin);
  await traffic(shop, server);
  await page.waitForRequest(/GetOverview/);
  await loaded(page);
  await shoot(page, "overview");

  await page.emulateMedia({ colorScheme: "dark" });
  await shoot(page, "overview-dark");
  await page.getByRole("link", { name: "Audit log" }).click();
  await page.getByRole("button", { name: /^access.denied/ }).first().waitFor();
  await shoot(page, "audit");
  await page.emulateMedia({ colorScheme: "light" });

  await server.call("POST", "/v1/limits/orders-per-user/reset", { key: shop.people.alice.id });
  const asked = { user: shop.people.alice.id, permission: "orders:refund", resource: "orders/42", attributes: '{"department": "support"}' };
  await page.goto(`/console/try?${new URLSearchParams(asked)}`);
  await page.getByRole("button", { name: "Preview" }).click();
  await page.getByText("would gain or lose something").waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await shoot(page, "try");
  await page.goto("/console/routes");
  await page.getByText("orders-item").waitFor();
  await shoot(page, "routes");

  for (const name of ["overview", "overview-dark", "audit", "try", "routes"]) {
    const { size } = statSync(fileURLToPath(new URL(`../../docs/console/${name}.png`, import.meta.url)));
    assert.ok(size < 150_000, `docs/console/${name}.png has ${size} bytes`);
  }
});
