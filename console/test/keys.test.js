// API keys: made, used, rotated and revoked.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close } from "./harness.js";
import { confirm, dialog, openAt, pick } from "./screens.js";

after(close);

/** Reads the secret that is shown, and puts it away. @param {import("playwright-core").Page} page */
async function secretOf(page) {
  const code = dialog(page).locator("code");
  await code.waitFor();
  const secret = (await code.textContent()) ?? "";
  // Neither Escape nor a click beside it loses what is shown only once.
  await page.keyboard.press("Escape");
  assert.equal(await code.isVisible(), true);
  await dialog(page).getByRole("button", { name: "I have stored it" }).click();
  await dialog(page).waitFor({ state: "detached" });
  assert.equal((await page.content()).includes(secret), false, "the secret is still in the page");
  return secret;
}

test("create a key, use it, rotate it, revoke it", async (t) => {
  const { server, page } = await openAt(t, "/console/api-keys");
  await server.call("POST", "/v1/users", { username: "billing", kind: "USER_KIND_SERVICE", roles: ["service"] });
  await page.getByRole("button", { name: "Create a key" }).click();
  await pick(dialog(page), page, "Acts as", "billing");
  await dialog(page).getByRole("textbox", { name: "Name" }).fill("nightly run");
  await dialog(page).getByRole("textbox", { name: "Scopes" }).fill("tollgate:verfy");
  await dialog(page).getByRole("button", { name: "Create", exact: true }).click();
  await dialog(page).getByText(/No\. 1: .*did you mean/).waitFor();
  await dialog(page).getByRole("textbox", { name: "Scopes" }).fill("tollgate:verify");
  await dialog(page).getByRole("button", { name: "Create", exact: true }).click();
  const first = await secretOf(page);

  const who = await server.as(first, "GET", "/v1/auth/whoami");
  assert.equal(who.body.principal.username, "billing");
  assert.deepEqual(who.body.permissions, ["tollgate:verify"]);
  await page.reload();
  const row = page.getByRole("row", { name: /nightly run/ });
  await row.getByText("tollgate:verify").waitFor();
  await row.getByRole("link", { name: "billing" }).waitFor();

  await row.getByRole("button", { name: "Rotate…" }).click();
  await dialog(page).getByRole("combobox").selectOption("In 1 hour");
  await dialog(page).getByRole("button", { name: "Make a new key" }).click();
  const second = await secretOf(page);
  for (const secret of [first, second]) assert.equal((await server.as(secret, "GET", "/v1/auth/whoami")).status, 200);

  // Two keys of the name: the old one ends by itself, the new one is revoked here.
  const fresh = page.getByRole("row", { name: /nightly run/ }).last();
  await fresh.getByRole("button", { name: "Revoke…" }).click();
  await confirm(page, "Revoke the key", [/Every program that uses the key “nightly run” of billing/, /It was (last used|never used)/]);
  const { body } = await server.as(second, "GET", "/v1/auth/whoami");
  assert.equal(body.code, "unauthenticated");
  assert.equal((await server.as(first, "GET", "/v1/auth/whoami")).status, 200);

  await page.getByRole("button", { name: "All", exact: true }).click();
  await page.getByText("revoked", { exact: true }).waitFor();
});
