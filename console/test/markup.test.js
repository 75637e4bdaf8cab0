// Data is text: whatever stands in names, descriptions, user agents and resources.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, open, signedIn, signIn } from "./harness.js";
import { payloads } from "./payloads.js";
import { openShop, screens } from "./shop.js";
import { loaded } from "./wait.js";

after(close);

test(`${payloads.length} texts that look like markup are shown as they are, on every screen`, async (t) => {
  const { server, page } = await open(t);
  await page.goto("/console/");
  await signIn(page, server.admin);
  const shop = await openShop(server);
  const { call } = server;
  const events = payloads.map((text, i) => ({
    action: "orders.tried",
    outcome: "OUTCOME_FAILURE",
    actor: { userId: text, username: text, sessionId: text, apiKeyId: text },
    reason: text,
    resource: text,
    userAgent: text,
    requestId: text,
    details: { [text.slice(0, 64)]: text, number: String(i) },
  }));
  assert.equal((await server.as(shop.key, "POST", "/v1/audit/events/batch", { events })).status, 200);
  for (const [i, text] of payloads.entries()) {
    await call("POST", "/v1/users", { username: `user-${i}`, displayName: text.replace(/\p{Cc}/gu, ""), password: "a long password" });
    await call("POST", "/v1/roles", { name: `role-${i}`, description: text, permissions: [`p${i}:read`], grants: [{ permission: `p${i}:write`, condition: `context.x == ${JSON.stringify(text)}`, description: text }] });
    await call("POST", "/v1/limits", { name: `limit-${i}`, description: text, subject: "SUBJECT_CUSTOM", contextKey: "x", permission: `p${i}:*`, rate: 1, period: "60s", overrides: [{ key: text.replaceAll("*", ""), rate: 2 }] });
    await call("POST", "/v1/routes", { name: `route-${i}`, description: text, path: `/r${i}/{id}`, permission: `p${i}:read`, context: { x: text.replace(/[{}]/g, "") } });
    await call("POST", "/v1/api-keys", { userId: shop.serviceId, name: text.slice(0, 120), scopes: [`p${i}:read`] }).catch(() => undefined); // an owner has at most so many
    await server.as(shop.key, "POST", "/v1/authorize", { userId: shop.people.bob.id, permission: `p${i}:read`, resource: text, client: { userAgent: text }, context: { x: text } });
    // No more than one address may try in a minute.
    if (i < 20) await server.as(undefined, "POST", "/v1/auth/login", { username: text, password: "wrong" });
  }

  await page.goto("/console/audit?action=orders.tried");
  await page.getByRole("button", { name: /^orders.tried/ }).first().waitFor();
  const more = page.getByRole("button", { name: "Load more" });
  while (await more.isVisible()) await more.click();
  const text = (await page.locator("main").innerText()).replace(/\s+/g, " ");
  for (const payload of payloads) assert.ok(text.includes(payload.replace(/\s+/g, " ")), `the log does not show ${payload}`);
  for (const i of [0, 7, 23, 45]) {
    await page.getByRole("button", { name: /^orders.tried/ }).nth(i).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("User agent").waitFor();
    await dialog.getByText(payloads.at(-1 - i) ?? "", { exact: true }).first().waitFor();
    await clean(page, "an event");
    await page.keyboard.press("Escape");
  }

  const { users } = await call("GET", "/v1/users?pageSize=200");
  const { id } = users.find((/** @type {any} */ user) => user.username === "user-1");
  const query = new URLSearchParams({ user: shop.people.bob.id, permission: "p7:write", resource: payloads[7] ?? "", context: `x = ${payloads[8]}` });
  for (const path of [...screens, `/console/users/${id}`, "/console/roles/role-1", "/console/limits/limit-1", `/console/try?${query}`, `/console/audit?${new URLSearchParams({ actor: payloads[1] ?? "", resource: payloads[2] ?? "" })}`, `/console/${encodeURIComponent(payloads[3] ?? "")}`]) {
    await page.goto(path);
    await signedIn(page);
    await loaded(page);
    await clean(page, path);
  }
});

/**
 * Nothing ran, nothing became an element, and no link leads away.
 * @param {import("playwright-core").Page} page
 * @param {string} where
 */
async function clean(page, where) {
  const found = await page.evaluate(() => ({
    ran: "xss" in window,
    elements: document.querySelectorAll("main script, main iframe, main object, main embed, main base, main meta, main link, main style, main img, main form[action], main template, main math, main video, [onerror], [onload], [onclick], [onfocus]").length,
    links: [...document.querySelectorAll("a[href], area[href], use[href], [src]")].map((e) => e.getAttribute("href") ?? e.getAttribute("src") ?? "").filter((url) => !/^(\/console\/|#)/.test(url)),
  }));
  assert.deepEqual(found, { ran: false, elements: 0, links: [] }, where);
}
