// Limits: made, watched, enforced, with overrides and resets.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close } from "./harness.js";
import { confirm, dialog, openAt } from "./screens.js";

after(close);

test("create a limit, exceed it, see that, enforce it", async (t) => {
  const { server, page } = await openAt(t, "/console/new-limit");
  const check = (/** @type {string} */ key) => server.call("POST", "/v1/limits/check", { limit: "exports", key });
  await page.getByRole("textbox", { name: "Name" }).fill("exports");
  await page.getByRole("textbox", { name: "Permission" }).fill("exports:run");
  await page.getByRole("combobox", { name: "Counts" }).selectOption("Each value of an entry of the context");
  await page.getByRole("textbox", { name: "Entry of the context" }).fill("tenant");
  await page.getByRole("textbox", { name: "Calls" }).fill("3");
  await page.getByRole("combobox", { name: "Unit" }).first().selectOption("hours");
  await page.getByRole("button", { name: "Create the limit" }).click();
  await page.getByRole("heading", { name: "exports", level: 1 }).waitFor();
  await page.getByText("only watches", { exact: true }).waitFor();

  await page.getByRole("textbox", { name: /Value of/ }).fill("acme");
  await page.getByText("3 of 3 left for acme").waitFor();
  await check("acme");
  await page.getByText("2 of 3 left for acme").waitFor();
  for (let i = 0; i < 3; i++) assert.equal((await check("acme")).allowed, true);
  await page.getByText("over, and only watched").waitFor();
  await page.getByRole("button", { name: "acme" }).waitFor();

  await page.getByRole("button", { name: "Enforce…" }).click();
  await confirm(page, "Enforce it", [/1 key would be refused now: acme\./]);
  await page.getByText("the next call is refused").waitFor();
  assert.equal((await check("acme")).allowed ?? false, false);

  await page.getByRole("button", { name: "Reset…" }).click();
  await confirm(page, "Reset", [/Forgets what exports has counted for acme: 3 of 3 are used\./]);
  await page.getByText("3 of 3 left for acme").waitFor();
});

test("overrides, and a change that says whom it refuses", async (t) => {
  const { server, page } = await openAt(t, "/console/limits");
  await server.call("POST", "/v1/limits", { name: "exports", subject: "SUBJECT_CUSTOM", contextKey: "tenant", permission: "exports:run", rate: 10, period: "3600s" });
  const limit = async () => (await server.call("GET", "/v1/limits/exports")).limit;
  await page.goto("/console/limits/exports?tab=overrides");
  await page.getByRole("button", { name: "Add an override" }).click();
  await dialog(page).getByRole("textbox", { name: /Value of/ }).fill("a*b");
  await dialog(page).getByRole("textbox", { name: "Calls" }).fill("2");
  await dialog(page).getByRole("button", { name: "Save" }).click();
  await dialog(page).getByText(/before its end/).first().waitFor();
  await dialog(page).getByRole("textbox", { name: /Value of/ }).fill("trial-*");
  await dialog(page).getByRole("button", { name: "Save" }).click();
  await page.getByText("(all that begin so)").waitFor();
  assert.deepEqual((await limit()).overrides.map((/** @type {{key: string}} */ o) => o.key), ["trial-*"]);
  await page.getByRole("button", { name: "Remove…" }).click();
  await confirm(page, "Remove it", [/trial-\* falls back from 2 an hour to 10 an hour/]);
  await page.getByText("Everybody has the same allowance.").waitFor();
  assert.deepEqual((await limit()).overrides, []);

  for (let i = 0; i < 9; i++) await server.call("POST", "/v1/limits/check", { limit: "exports", key: "acme" });
  await page.goto("/console/limits/exports");
  await page.getByRole("button", { name: "acme" }).waitFor();
  await page.getByRole("tab", { name: "Edit" }).click();
  await page.getByRole("textbox", { name: "Calls" }).fill("4");
  await page.getByRole("button", { name: "Review the change" }).click();
  await confirm(page, "Save", [/It allows 4 an hour, instead of 10 an hour\./, /1 key that may call now is refused at once: acme\./]);
  await page.getByText("4 an hour", { exact: true }).waitFor();
  assert.equal(String((await limit()).rate), "4");

  await page.getByRole("button", { name: "Delete…" }).click();
  await confirm(page, "Delete exports", [/no longer limited by it/], "exports");
  await page.waitForURL("**/console/limits");
});
