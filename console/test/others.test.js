// What others see and do: who may only read, and two people at once.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, open, signedOut, signIn, visit } from "./harness.js";
import { dialog, openAt } from "./screens.js";

after(close);

test("who may only read is offered nothing that changes anything", async (t) => {
  const { server, page } = await open(t);
  await server.call("POST", "/v1/roles", { name: "packer", permissions: ["orders:pack"] });
  await server.call("POST", "/v1/limits", { name: "exports", subject: "SUBJECT_USER", permission: "exports:run", rate: 1, period: "60s" });
  const mia = await server.person("mia", ["packer"]);
  const reader = await server.person("reader", ["auditor"]);
  await server.login(mia.username, mia.password);
  await server.call("POST", "/v1/api-keys", { userId: mia.id, name: "deploy" });
  await page.goto("/console/users");
  await signIn(page, reader);
  const offers = page.locator("main").getByRole("button", { name: /^(Create|Delete|Remove|Edit|Assign|Give|Set|Reset|End|Disable|Rotate|Revoke|Enforce|Only watch|Add|Change|More about)\b/ });
  for (const [path, text] of [
    ["users", "mia"], [`users/${mia.id}`, mia.id], [`users/${mia.id}?tab=roles`, "packer"], [`users/${mia.id}?tab=permissions`, "orders:pack"],
    [`users/${mia.id}?tab=sessions`, "127.0.0.1"], [`users/${mia.id}?tab=keys`, "deploy"], ["roles", "packer"], ["roles/packer?tab=edit", "orders:pack"],
    ["roles/packer?tab=members", "mia"], ["api-keys?new=1", "deploy"], ["limits", "exports"], ["limits/exports?tab=edit", "exports:run"], ["limits/exports?tab=overrides", "same allowance"],
  ]) {
    await page.goto(`/console/${path}`);
    await page.locator("main").getByText(text ?? "").first().waitFor();
    assert.deepEqual(await offers.allTextContents(), [], path);
    assert.equal(await dialog(page).count(), 0, path);
  }
  await page.goto("/console/limits/exports");
  await page.getByText("You lack the permission tollgate:limits:check").waitFor();
});

test("what somebody else has changed meanwhile is not saved over", async (t) => {
  const { server, page } = await openAt(t, "/console/roles");
  await server.call("POST", "/v1/roles", { name: "packer", permissions: ["orders:pack"] });
  await server.call("POST", "/v1/limits", { name: "exports", subject: "SUBJECT_GLOBAL", permission: "exports:run", rate: 5, period: "60s" });
  await page.goto("/console/roles/packer?tab=edit");
  await page.getByRole("textbox", { name: "Permissions" }).fill("orders:ship");
  await server.call("PATCH", "/v1/roles/packer", { description: "changed" });
  await page.getByRole("button", { name: "Review the change" }).click();
  await dialog(page).getByRole("button", { name: "Save" }).click();
  await dialog(page).getByText("Somebody else has changed the role packer").waitFor();
  assert.deepEqual((await server.call("GET", "/v1/roles/packer")).role.permissions, ["orders:pack"]);

  await page.goto("/console/limits/exports?tab=edit");
  await page.getByRole("textbox", { name: "Calls" }).fill("7");
  await server.call("PATCH", "/v1/limits/exports", { description: "changed" });
  await page.getByRole("button", { name: "Review the change" }).click();
  await dialog(page).getByRole("button", { name: "Save" }).click();
  await dialog(page).getByText("Somebody else has changed the limit exports").waitFor();
  assert.equal(String((await server.call("GET", "/v1/limits/exports")).limit.rate), "5");
});

test("one's own password is changed with the current one, and ends the session", async (t) => {
  const { server } = await openAt(t, "/console/users");
  const mia = await server.person("mia");
  const { page } = await visit(t, server);
  await page.goto(`/console/users/${mia.id}`);
  await signIn(page, mia);
  await page.getByRole("button", { name: "Change password" }).click();
  await dialog(page).getByText(/Ends 1 session of mia/).waitFor();
  await dialog(page).getByLabel("Current password").fill("wrong");
  await dialog(page).getByLabel("New password").fill("another password of mia");
  await dialog(page).getByRole("button", { name: "Change it" }).click();
  await dialog(page).getByText("is wrong", { exact: true }).waitFor();
  await dialog(page).getByLabel("Current password").fill(mia.password);
  await dialog(page).getByRole("button", { name: "Change it" }).click();
  await signedOut(page);
  await signIn(page, { username: "mia", password: "another password of mia" });
});
