// What people write is shown as text: every payload, in every field that these screens show.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close } from "./harness.js";
import { openAt } from "./screens.js";
import { payloads } from "./payloads.js";

after(close);

/** @param {string[]} list */
const short = (list, most = 128) => list.filter((text) => text.length <= most);

/**
 * Goes to a page, waits for a payload to be shown as text, and looks for what became of all.
 * @param {import("playwright-core").Page} page
 * @param {string} path
 * @param {string[]} texts what has to be shown
 */
async function shown(page, path, texts) {
  await page.goto(path);
  await page.locator("main h1").waitFor();
  const flat = (/** @type {string} */ text) => text.replace(/\s+/g, " ").trim();
  for (const text of texts) {
    await page.waitForFunction(
      (want) => [...document.querySelectorAll("body, textarea, input")].some((e) => ((e instanceof HTMLInputElement || e instanceof HTMLTextAreaElement ? e.value : (e.textContent ?? "")).replace(/\s+/g, " ").includes(want))),
      flat(text),
    );
  }
  await clean(page, path);
}

/** @param {import("playwright-core").Page} page @param {string} where */
async function clean(page, where) {
  const found = await page.evaluate(() => ({
    // @ts-expect-error: set by a payload that ran
    ran: window.xss,
    elements: document.querySelectorAll("#xss, main :is(script, iframe, object, embed, base, meta, link, style, img, video, math, form[action]), main [onerror], main [onload], main [onfocus]").length,
    links: [...document.querySelectorAll("a")].map((a) => a.href).filter((href) => !href.startsWith(`${location.origin}/console`)),
  }));
  assert.deepEqual(found, { ran: undefined, elements: 0, links: [] }, where);
}

test("names, descriptions, keys and user agents of users are text", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  const { user: first } = (await server.call("POST", "/v1/users", { username: "u0", displayName: "first" })) ?? {};
  assert.ok(first.id);
  for (const [i, text] of payloads.entries()) {
    const clean = text.replace(/[\u0000-\u001f]/g, " ");
    await server.call("POST", "/v1/users", { username: `user${i}`, displayName: clean });
    await server.call("POST", "/v1/api-keys", { userId: first.id, name: clean });
  }
  await server.call("PATCH", `/v1/users/${first.id}`, { attributes: Object.fromEntries(payloads.map((text, i) => [`k${i}${text}`.slice(0, 128), text])) });
  const shorts = short(payloads.map((text) => text.replace(/[\u0000-\u001f]/g, " ")));
  // The list is read 50 at a time: all of it.
  await page.goto("/console/users");
  await page.getByRole("button", { name: "Load more" }).click();
  await page.getByRole("link", { name: `user${payloads.length - 1}`, exact: true }).waitFor();
  await clean(page, "/console/users");
  await shown(page, "/console/users?q=user1", [shorts[1] ?? "", shorts[10] ?? ""]);
  await shown(page, `/console/users/${first.id}?tab=keys`, shorts);
  await shown(page, "/console/api-keys", shorts);
  await shown(page, `/console/users/${first.id}`, [payloads[1] ?? ""]);

  const mia = await server.person("mia");
  await server.call("PATCH", "/v1/limits/sign-in-per-ip", { rate: 1000, burst: 1000 });
  let last = "";
  for (const text of payloads.slice(0, 45)) {
    const agent = text.replace(/[^\x20-\x7e]/g, " ");
    const answer = await fetch(`${server.url}/v1/auth/login`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "User-Agent": agent },
      body: JSON.stringify({ username: "mia", password: mia.password }),
    });
    assert.equal(answer.status, 200);
    last = agent;
  }
  await shown(page, `/console/users/${mia.id}?tab=sessions`, [last]);
  // What the questions before an action quote is text, too.
  await page.getByRole("button", { name: "End all…" }).click();
  await page.getByRole("dialog").getByText(/Ends \d+ sessions of mia/).waitFor();
  await clean(page, "the dialog");
});

test("descriptions, grants and overrides of roles and limits are text", async (t) => {
  const { server, page } = await openAt(t, "/console/roles");
  const texts = payloads.map((text) => text.replace(/[\u0000-\u001f]/g, " "));
  for (const [i, text] of texts.entries()) await server.call("POST", "/v1/roles", { name: `role${i}`, description: text });
  await server.call("POST", "/v1/roles", {
    name: "all",
    grants: texts.map((text, i) => ({ permission: `orders:p${i}`, description: text, condition: `context.x == ${JSON.stringify(text)}` })),
  });
  await server.call("POST", "/v1/limits", {
    name: "all", subject: "SUBJECT_CUSTOM", contextKey: "<img src=x onerror=window.xss=1>", permission: "orders:x", rate: 1, period: "3600s",
    overrides: texts.filter((text) => !text.includes("*")).map((key) => ({ key, rate: 7 })),
  });
  for (const [i, text] of texts.entries()) {
    await server.call("POST", "/v1/limits", { name: `limit${i}`, description: text, subject: "SUBJECT_GLOBAL", permission: `orders:p${i}`, rate: 5, period: "60s" });
  }
  for (const text of texts.slice(0, 20)) await server.call("POST", "/v1/limits/check", { limit: "all", key: text, cost: 1 });

  await shown(page, "/console/roles", texts);
  await shown(page, "/console/roles/role1", [texts[1] ?? ""]);
  await shown(page, "/console/roles/all", texts);
  await shown(page, "/console/roles/all?tab=edit", texts);
  await page.getByRole("button", { name: "Review the change" }).click();
  await page.getByRole("dialog").getByText("nothing changes for anybody").waitFor();
  await clean(page, "the review");
  await shown(page, "/console/limits", texts.slice(0, 30));
  await shown(page, "/console/limits/all", ["<img src=x onerror=window.xss=1>"]);
  await shown(page, "/console/limits/all?tab=overrides", texts.filter((text) => !text.includes("*")));
});

test("an address with a payload in it is text", async (t) => {
  const { page } = await openAt(t, "/console/users");
  for (const text of ["<img src=x onerror=window.xss=1>", "javascript:window.xss=1", '"><svg onload=window.xss=1>']) {
    const part = encodeURIComponent(text);
    for (const path of [`roles/${part}`, `limits/${part}`, `users/${part}`, `users?q=${part}&new=1`, `api-keys?user=${part}`, `limits/x?key=${part}&tab=${part}`]) {
      await page.goto(`/console/${path}`);
      await page.locator("main h1").waitFor();
      await clean(page, path);
    }
  }
});
