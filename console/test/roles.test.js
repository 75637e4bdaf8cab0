// Roles: made, changed after a look at what that does, held and deleted.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, shoot } from "./harness.js";
import { confirm, dialog, openAt, pick } from "./screens.js";

after(close);

test("create a role; a condition's error is at its field and position", async (t) => {
  const { server, page } = await openAt(t, "/console/new-role");
  await page.getByRole("textbox", { name: "Name" }).fill("auditor");
  await page.getByRole("textbox", { name: "Permissions" }).fill("orders:read\norders:list");
  await page.getByRole("button", { name: "Add a grant" }).click();
  await page.getByRole("textbox", { name: "Permission", exact: true }).fill("orders:write");
  const condition = page.getByRole("textbox", { name: "Condition" });
  await condition.fill("resource.attributes.team = 3");
  await page.getByRole("button", { name: "Create the role" }).click();
  await page.getByText(/^line 1, column 26/).waitFor();
  assert.equal(await condition.getAttribute("aria-invalid"), "true");
  assert.equal(await page.getByLabel("Where the condition is wrong").textContent(), `resource.attributes.team = 3\n${" ".repeat(25)}^`);

  await condition.fill("resource.attributes.team == principal.attributes.team");
  await page.getByRole("button", { name: "Create the role" }).click();
  await page.getByText(/exists already/).first().waitFor();
  assert.equal(await page.getByRole("textbox", { name: "Name" }).getAttribute("aria-invalid"), "true");
  await page.getByRole("textbox", { name: "Name" }).fill("editor");
  await page.getByRole("button", { name: "Create the role" }).click();
  await page.getByRole("heading", { name: "editor", level: 1 }).waitFor();
  const { role } = await server.call("GET", "/v1/roles/editor");
  assert.deepEqual(role.permissions, ["orders:list", "orders:read"]);
  assert.equal(role.grants[0].condition, "resource.attributes.team == principal.attributes.team");
});

test("a change is saved after it was said who gains and loses what", async (t) => {
  const { server, page } = await openAt(t, "/console/roles");
  await server.call("POST", "/v1/roles", { name: "packer", permissions: ["orders:read", "orders:pack"] });
  const people = [];
  for (const name of ["mia", "noah", "zoe"]) people.push(await server.person(name, ["packer"]));
  // A refusal on record that the change would turn around.
  const mia = await server.login("mia", "the password of mia");
  const refused = await server.call("POST", "/v1/authorize", { accessToken: mia.accessToken, permission: "orders:ship" });
  assert.equal(refused.allowed ?? false, false);

  await page.goto("/console/roles/packer?tab=edit");
  await page.getByRole("textbox", { name: "Permissions" }).fill("orders:read\norders:ship");
  await page.getByRole("button", { name: "Review the change" }).click();
  const look = dialog(page);
  await look.getByText("3 users lose orders:pack.").waitFor();
  await look.getByText("3 users gain orders:ship.").waitFor();
  await look.getByRole("heading", { name: "Decisions that would be made otherwise" }).waitFor();
  await shoot(page, "role-change");
  assert.deepEqual((await server.call("GET", "/v1/roles/packer")).role.permissions, ["orders:pack", "orders:read"]);
  await look.getByRole("button", { name: "Save: 3 users lose something" }).click();
  await look.waitFor({ state: "detached" });
  await page.getByText("orders:ship").waitFor();
  assert.deepEqual((await server.call("GET", "/v1/roles/packer")).role.permissions, ["orders:read", "orders:ship"]);
});

test("give a role and take it, by the role; delete it", async (t) => {
  const { server, page } = await openAt(t, "/console/roles");
  await server.call("POST", "/v1/roles", { name: "packer", permissions: ["orders:pack"] });
  await server.call("POST", "/v1/roles", { name: "boss", inherits: ["packer"] });
  const mia = await server.person("mia");
  await server.person("noah", ["packer"]);
  await page.goto("/console/roles/packer?tab=members");
  await page.getByRole("button", { name: "Give it to a user" }).click();
  await pick(dialog(page), page, "User", "mia");
  await dialog(page).getByRole("button", { name: "Assign", exact: true }).click();
  const row = page.getByRole("row", { name: /mia/ });
  await row.getByRole("button", { name: "Remove…" }).click();
  await confirm(page, "Remove mia", [/mia loses 1 permission: orders:pack\./]);
  assert.deepEqual((await server.call("GET", `/v1/users/${mia.id}/roles`)).roles, []);

  // Another role needs it: the server keeps it, and says so in the dialog.
  await page.getByRole("button", { name: "Delete…" }).click();
  await dialog(page).getByText(/1 role inherits it.*boss/).waitFor();
  await dialog(page).getByText(/1 user loses it at once: noah\./).waitFor();
  await dialog(page).getByRole("textbox").fill("packer");
  await dialog(page).getByRole("button", { name: "Delete packer" }).click();
  await dialog(page).getByRole("alert").waitFor();
  await server.call("PATCH", "/v1/roles/boss", { clearInherits: true });
  await dialog(page).getByRole("button", { name: "Delete packer" }).click();
  await page.waitForURL("**/console/roles");
  assert.equal((await server.call("GET", "/v1/roles")).roles.some((/** @type {{name: string}} */ r) => r.name === "packer"), false);
});
