// Users: made, given roles, signed out, disabled and deleted, in a real browser.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, open, signedIn, signedOut, signIn, visit } from "./harness.js";
import { confirm, dialog, openAt, pick } from "./screens.js";
import { totp } from "./totp.js";

after(close);

const menu = (/** @type {import("playwright-core").Page} */ page, /** @type {string} */ name) =>
  page
    .getByRole("button", { name: /^More about / })
    .click()
    .then(() => page.getByRole("menuitem", { name }).click());

test("create a user, who signs in", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  await page.getByRole("button", { name: "Create a user" }).click();
  const form = dialog(page);
  await form.getByRole("textbox", { name: "User name" }).fill("admin");
  await form.getByRole("button", { name: "Create", exact: true }).click();
  // The conflict is said at the field, which has the focus.
  const name = form.getByRole("textbox", { name: "User name" });
  await form.getByText(/exists already|has the name|taken/).first().waitFor();
  assert.equal(await name.getAttribute("aria-invalid"), "true");
  assert.equal(await name.evaluate((e) => e === document.activeElement), true);

  await name.fill("Mia");
  await form.getByRole("textbox", { name: "Display name" }).fill("Mia Berger");
  await form.getByLabel("Password").fill("a password of mia");
  await form.getByRole("checkbox").uncheck();
  await form.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByRole("heading", { name: "mia", level: 1 }).waitFor();
  assert.match(new URL(page.url()).pathname, /^\/console\/users\/[0-9a-f-]{36}$/);

  // The address alone shows the user again.
  await page.reload();
  await page.getByRole("heading", { name: "mia", level: 1 }).waitFor();

  const other = await visit(t, server);
  await other.page.goto("/console/");
  await signIn(other.page, { username: "mia", password: "a password of mia" });
});

test("create a user by keyboard alone", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  const { keyboard } = page;
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim());
  await page.getByRole("link", { name: "admin" }).waitFor();
  for (let i = 0; (await focused()) !== "Create a user"; i++) {
    assert.ok(i < 40, "the button is not reached");
    await keyboard.press("Tab");
  }
  await keyboard.press("Enter");
  await dialog(page).waitFor();
  await page.waitForFunction(() => document.activeElement?.tagName === "SELECT");
  await keyboard.press("Tab");
  await keyboard.type("noah");
  await keyboard.press("Tab");
  await keyboard.type("Noah Lind");
  await keyboard.press("Tab");
  await keyboard.type("a password of noah");
  await keyboard.press("Enter");
  await page.getByRole("heading", { name: "noah", level: 1 }).waitFor();
  const { users } = await server.call("GET", "/v1/users?username=noah");
  assert.equal(users[0].displayName, "Noah Lind");
  assert.equal(users[0].passwordChangeRequired, true);
});

test("search and filter, which the address keeps", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  for (const name of ["mia", "mike", "noah"]) await server.person(name);
  await page.getByRole("searchbox").fill("mi");
  await page.waitForURL(/q=mi/);
  await page.getByRole("link", { name: "mike" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "noah" }).count(), 0);
  await page.reload();
  await page.getByRole("link", { name: "mike" }).waitFor();
  assert.equal(await page.getByRole("searchbox").inputValue(), "mi");
  await page.getByRole("searchbox").fill("no such name");
  await page.getByText("No user fits.").waitFor();
});

test("assign a role with an end, and take it again", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  const mia = await server.person("mia");
  await server.call("POST", "/v1/roles", { name: "packer", permissions: ["orders:read", "orders:pack"] });
  await page.goto(`/console/users/${mia.id}?tab=roles`);
  await page.getByRole("button", { name: "Assign a role" }).click();
  await pick(dialog(page), page, "Role", "packer");
  await dialog(page).getByRole("combobox", { name: "Ends" }).selectOption("In 7 days");
  await dialog(page).getByRole("button", { name: "Assign", exact: true }).click();
  await page.getByRole("link", { name: "packer" }).waitFor();
  const { roles } = await server.call("GET", `/v1/users/${mia.id}/roles`);
  assert.ok(Math.abs(Date.parse(roles[0].expiresAt) - Date.now() - 7 * 86_400_000) < 60_000);

  await page.getByRole("tab", { name: "Permissions" }).click();
  await page.getByText("orders:pack").waitFor();
  await page.getByRole("tab", { name: "Roles" }).click();
  await page.getByRole("button", { name: "Remove…" }).click();
  await confirm(page, "Remove the role", [/mia loses 2 permissions: orders:pack, orders:read|mia loses 2 permissions: orders:read, orders:pack/]);
  await page.getByText("mia holds no role, and may do nothing.").waitFor();
  assert.deepEqual((await server.call("GET", `/v1/users/${mia.id}/roles`)).roles, []);
});

test("a session that is ended signs that browser out", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  const mia = await server.person("mia");
  const other = await visit(t, server);
  await other.page.goto("/console/");
  await signIn(other.page, mia);
  await page.goto(`/console/users/${mia.id}?tab=sessions`);
  await page.getByRole("button", { name: "End…" }).click();
  await confirm(page, "End the session", [/Ends 1 session of mia: Chrome on Linux at 127\.0\.0\.1/]);
  await signedOut(other.page, 3000);
  await page.getByText("mia is signed in nowhere.").waitFor();
});

test("disable and delete say in numbers what they do", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  const mia = await server.person("mia");
  await server.login(mia.username, mia.password);
  await server.login(mia.username, mia.password);
  await server.call("POST", "/v1/api-keys", { userId: mia.id, name: "deploy" });
  await page.goto(`/console/users/${mia.id}`);
  await menu(page, "Disable…");
  await confirm(page, "Disable mia", [/Ends 2 sessions of mia/, /Stops 1 API key: deploy\./]);
  await page.getByText("disabled", { exact: true }).waitFor();
  assert.equal((await server.call("GET", `/v1/users/${mia.id}`)).user.disabled, true);
  await menu(page, "Delete…");
  await confirm(page, "Delete mia", [/mia has no live session/, /Removes 1 API key: deploy\./, /cannot be undone/], "mia");
  await page.waitForURL("**/console/users");
  assert.deepEqual((await server.call("GET", "/v1/users?username=mia")).users, []);
});

test("a one-time password is shown once", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  const mia = await server.person("mia");
  await page.goto(`/console/users/${mia.id}`);
  await page.getByRole("button", { name: "Set password" }).click();
  await dialog(page).getByText("mia has no live session.").waitFor();
  await dialog(page).getByRole("button", { name: "Set the password" }).click();
  const secret = dialog(page).locator("code");
  await secret.waitFor();
  const password = (await secret.textContent()) ?? "";
  await dialog(page).getByRole("button", { name: "I have stored it" }).click();
  await dialog(page).waitFor({ state: "detached" });
  assert.doesNotMatch(await page.content(), new RegExp(password));
  const answer = await server.login("mia", password);
  assert.equal(answer.passwordChangeRequired, true);
});

test("set up a second factor, which an administrator resets", async (t) => {
  const { server, page } = await openAt(t, "/console/users");
  const mia = await server.person("mia");
  const other = await visit(t, server);
  await other.page.goto(`/console/users/${mia.id}`);
  await signIn(other.page, mia);
  await other.page.getByRole("button", { name: "Set up…" }).click();
  await dialog(other.page).getByLabel("Current password").fill(mia.password);
  await dialog(other.page).getByRole("button", { name: "Go on" }).click();
  await dialog(other.page).getByRole("img", { name: /QR code/ }).waitFor();
  const secret = (await dialog(other.page).locator("code").first().textContent()) ?? "";
  await dialog(other.page).getByLabel("Code from the app").fill(totp(secret));
  await dialog(other.page).getByRole("button", { name: "Turn it on" }).click();
  await other.page.getByText("second factor", { exact: true }).waitFor();

  await page.goto(`/console/users/${mia.id}`);
  await page.getByRole("button", { name: "Reset…" }).click();
  await confirm(page, "Reset the second factor", [/mia signs in with the password alone/]);
  await page.getByText("Off: mia signs in with a password alone.").waitFor();
  assert.equal((await server.call("GET", `/v1/users/${mia.id}`)).user.secondFactor, false);
});

test("who may not read users sees what they lack, and themselves", async (t) => {
  const { server, page } = await open(t);
  const mia = await server.person("mia");
  await page.goto("/console/users");
  await signIn(page, mia);
  await page.getByText("You lack the permission tollgate:users:read").waitFor();
  assert.equal(await page.getByRole("button", { name: "Create a user" }).count(), 0);
  await page.goto(`/console/users/${mia.id}?tab=sessions`);
  await signedIn(page);
  await page.getByText("this one").waitFor();
});
