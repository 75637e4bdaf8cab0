// The console's session and its headers, as a real browser sees them.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createServer } from "node:http";
import { once } from "node:events";
import { cleanup } from "./cleanup.js";
import { close, open, request, signedIn, signedOut, signIn, visit } from "./harness.js";
import { loaded, watching } from "./wait.js";

after(close);

/** @param {import("playwright-core").BrowserContext} context */
async function sessionCookie(context) {
  return (await context.cookies()).find((cookie) => cookie.name.startsWith("tollgate"));
}

test("sign in, reload anywhere, sign out", async (t) => {
  const { server, page, context } = await open(t);
  await page.goto("/console/users");
  await signIn(page, server.admin);
  assert.equal(new URL(page.url()).pathname, "/console/users");

  const cookie = await sessionCookie(context);
  assert.ok(cookie, "there is no cookie");
  assert.equal(cookie.httpOnly, true);
  assert.equal(cookie.sameSite, "Strict");
  assert.equal(cookie.path, "/console/session");
  assert.equal(await page.evaluate(() => document.cookie), "");

  await page.reload();
  await signedIn(page);
  assert.equal(new URL(page.url()).pathname, "/console/users");

  // What a page stores is no credential.
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.doesNotMatch(stored, /tgr_|eyJ/);

  await page.getByRole("button", { name: /^Account of / }).click();
  await page.getByRole("menuitem", { name: "Sign out", exact: true }).click();
  await signedOut(page);
  assert.equal(await sessionCookie(context), undefined);
  await page.reload();
  await signedOut(page);
});

test("a wrong password, then the right one", async (t) => {
  const { server, page } = await open(t);
  await page.goto("/console/");
  await page.locator("input[name=username]").fill(server.admin.username);
  await page.locator("input[name=password]").fill("wrong");
  await page.locator("button[type=submit]").click();
  await page.getByRole("alert").waitFor();
  await signIn(page, server.admin);
});

test("every path is the console's, and stays after signing in", async (t) => {
  const { server, page, context } = await open(t);
  for (const path of ["/console", "/console/", "/console/users/x/y", "/console/no/such/page?a=b"]) {
    const response = await context.request.get(path);
    assert.equal(response.status(), 200, path);
    assert.match(response.headers()["content-security-policy"] ?? "", /default-src 'none'/);
  }
  await page.goto("/console/roles");
  await signIn(page, server.admin);
  assert.equal(new URL(page.url()).pathname, "/console/roles");
});

test("no script and no style that the console did not bring", async (t) => {
  const { page, watch } = await open(t);
  watch.allow(/^policy: (script-src|style-src|require-trusted-types-for|connect-src|trusted-types|img-src)/);
  watch.allow(/Content Security Policy|TrustedHTML|requires 'Trusted|trusted types/i);
  watch.allow(/^request: https:\/\/evil\.example/);
  await page.goto("/console/");
  await signedOut(page);
  const ran = await page.evaluate(async () => {
    /** @type {Record<string, unknown>} */
    const ran = {};
    const script = document.createElement("script");
    try {
      script.text = "window.inlineRan = true";
      document.body.append(script);
    } catch (e) {
      ran.refused = String(e);
    }
    try {
      document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.handlerRan = true'>");
    } catch (e) {
      ran.html = String(e);
    }
    const image = document.querySelector("img");
    const tried = image && new Promise((done) => image.addEventListener("error", done));
    const style = document.createElement("style");
    style.textContent = "body { outline: 7px solid red }";
    document.head.append(style);
    await fetch("https://evil.example/").then(
      () => (ran.fetched = true),
      () => undefined,
    );
    await tried;
    const { inlineRan, handlerRan } = /** @type {any} */ (window);
    return Object.assign(ran, { inline: inlineRan, handler: handlerRan, outline: getComputedStyle(document.body).outlineWidth });
  });
  assert.equal(ran.inline, undefined);
  assert.equal(ran.handler, undefined);
  assert.notEqual(ran.outline, "7px");
  assert.equal("fetched" in ran, false);
  assert.match(String(ran.html), /Trusted/);
});

test("another site's page can do nothing with the session", async (t) => {
  const { server, page, context } = await open(t);
  await page.goto("/console/");
  await signIn(page, server.admin);
  const before = await sessionCookie(context);

  // Another site in the same browser: another host name, and a port of its own.
  const evil = createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html><title>evil</title>"));
  evil.listen(0, "127.0.0.1");
  await once(evil, "listening");
  cleanup(t, () => {
    evil.close();
    evil.closeAllConnections();
  });
  const { port } = /** @type {import("node:net").AddressInfo} */ (evil.address());

  const other = await visit(t, { ...server, url: `http://localhost:${port}` });
  await other.context.addCookies(await context.cookies());
  other.watch.allow(/.*/);
  await other.page.goto("/");
  for (const path of ["login", "refresh", "logout"]) {
    const [sent] = await Promise.all([
      other.page.waitForEvent("requestfailed", (r) => r.url().includes("/console/session/")),
      other.page.evaluate(
        (url) => fetch(url, { method: "POST", mode: "no-cors", credentials: "include" }).catch(() => undefined),
        `${server.url}/console/session/${path}`,
      ),
    ]);
    assert.match(sent.failure()?.errorText ?? "", /BLOCKED_BY_RESPONSE/, path);
  }
  // A form, which navigates, and a frame.
  await Promise.all([
    other.page.waitForURL(/session\/refresh/),
    other.page.evaluate((url) => {
      const form = document.createElement("form");
      form.method = "post";
      form.action = url;
      document.body.append(form);
      form.submit();
    }, `${server.url}/console/session/refresh`),
  ]);
  assert.match(await other.page.content(), /CROSS_SITE/);
  await other.page.goto("/");
  await other.page.evaluate((url) => {
    const frame = document.createElement("iframe");
    frame.src = url;
    document.body.append(frame);
    return new Promise((resolve) => (frame.onload = resolve));
  }, `${server.url}/console/`);
  const [, framed] = other.page.frames();
  assert.doesNotMatch((await framed?.content().catch(() => "")) ?? "", /password/);

  assert.equal((await sessionCookie(context))?.value, before?.value);
  await page.reload();
  await signedIn(page);
});

test("two tabs that refresh at once stay signed in", async (t) => {
  const { server, page, context } = await open(t);
  await page.goto("/console/");
  await signIn(page, server.admin);
  const second = await context.newPage();
  for (let round = 0; round < 3; round++) {
    await Promise.all([page.goto("/console/users"), second.goto("/console/users")]);
    await Promise.all([signedIn(page), signedIn(second)]);
  }
  const events = await server.call("GET", "/v1/audit/events?action=auth.refresh_reuse");
  assert.deepEqual(events.events, []);
});

test("a page that is loaded again while it refreshes stays signed in", async (t) => {
  const { server, page } = await open(t);
  await page.goto("/console/users");
  await signIn(page, server.admin);
  for (let round = 0; round < 5; round++) {
    const sent = page.waitForRequest(/session\/refresh/);
    await page.reload({ waitUntil: "commit" });
    await sent;
  }
  await page.reload();
  await signedIn(page);
});

test("nobody is told the refresh token", async (t) => {
  const { server, page, context } = await open(t);
  /** @type {string[]} */
  const answers = [];
  context.on("response", async (response) => {
    if (response.url().startsWith(server.url)) answers.push(await response.text().catch(() => ""));
  });
  await page.goto("/console/");
  await signIn(page, server.admin);
  await page.reload();
  await signedIn(page);
  const direct = await request(page, "/console/session/refresh", { method: "POST" });
  assert.equal(direct.status, 200);
  const { value } = /** @type {import("playwright-core").Cookie} */ (await sessionCookie(context));
  const token = value.split(".")[0] ?? "";
  assert.match(token, /^tgr_/);
  for (const answer of [...answers, direct.text]) assert.ok(!answer.includes("tgr_"));
});

for (const roles of [["administrator"], []]) {
  test(`a revoked session is signed out within a second: ${roles[0] ?? "without a role"}`, async (t) => {
    const { server, page, context } = await open(t);
    const alice = await server.person("alice", roles);
    // Who was given a password changes it first; this one is chosen by alice.
    const changed = { ...alice, password: "a password of her own" };
    const { accessToken } = await server.login(alice.username, alice.password);
    const set = await server.as(accessToken, "POST", `/v1/users/${alice.id}/password`, {
      currentPassword: alice.password,
      newPassword: changed.password,
    });
    assert.equal(set.status, 200);
    await page.goto("/console/");
    await Promise.all([roles.length > 0 && watching(page), signIn(page, changed)]);
    await loaded(page);
    const { sessions } = await server.call("GET", `/v1/users/${alice.id}/sessions`);
    assert.equal(sessions.length, 1);
    await server.call("DELETE", `/v1/users/${alice.id}/sessions/${sessions[0].id}`);
    await signedOut(page, 1000);

    // The cookie is good for nothing, and gone with the first try.
    assert.equal((await request(page, "/console/session/refresh", { method: "POST" })).status, 401);
    assert.equal(await sessionCookie(context), undefined);
  });
}

test("signing out in one tab signs out the other", async (t) => {
  const { server, page, context } = await open(t);
  await page.goto("/console/");
  await signIn(page, server.admin);
  const second = await context.newPage();
  await second.goto("/console/users");
  await signedIn(second);
  await second.getByRole("button", { name: /^Account of / }).click();
  await second.getByRole("menuitem", { name: "Sign out", exact: true }).click();
  await signedOut(page, 1000);
});
