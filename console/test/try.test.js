// Try a decision: the answer, why, and what would change it.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, open, signIn } from "./harness.js";
import { openShop } from "./shop.js";

after(close);

test("allowed and denied, and why", async (t) => {
  const { server, page } = await open(t);
  await openShop(server);
  await page.goto("/console/try");
  await signIn(page, server.admin);
  await page.getByLabel("Who").fill("ali");
  await page.getByRole("option", { name: /alice/ }).click();
  await page.getByLabel("Permission").fill("orders:write");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Explain" }).click();
  const answer = page.getByRole("region", { name: "Answer" });
  await answer.getByText("Allowed").waitFor();
  await answer.getByText("A role of alice grants orders:write.").waitFor();

  await page.getByLabel("Permission").fill("orders:delete");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Explain" }).click();
  await answer.getByText("A role of alice denies orders:delete, whatever others grant.").waitFor();
  await page.getByRole("region", { name: "How it came about" }).getByText("denies", { exact: true }).waitFor();

  await page.reload();
  await answer.getByText("Refused").waitFor();
  assert.match(page.url(), /permission=orders%3Adelete/);
});

test("what a condition read, and a field that is wrong", async (t) => {
  const { server, page } = await open(t);
  const shop = await openShop(server);
  const address = (/** @type {string} */ attributes) => `/console/try?${new URLSearchParams({ user: shop.people.alice.id, permission: "orders:refund", attributes })}`;
  await page.goto(address('{"department": "support"}'));
  await signIn(page, server.admin);
  await page.getByText("only under a condition that is not true here").waitFor();
  await page.getByText('if resource.attributes.department == "sales"').waitFor();
  await page.getByText('"support"', { exact: true }).waitFor();
  await page.goto(address('{"department": "sales"}'));
  await page.getByRole("region", { name: "Answer" }).getByText("Allowed").waitFor();
  await page.goto(address("no JSON"));
  await page.getByText("must be JSON").first().waitFor();
});

test("what would change, before anybody changes it", async (t) => {
  const { server, page } = await open(t);
  const shop = await openShop(server);
  await shop.authorize(shop.people.bob.id, "orders:write", { resource: "orders/7" });
  await page.goto(`/console/try?${new URLSearchParams({ user: shop.people.bob.id, permission: "orders:write" })}`);
  await signIn(page, server.admin);
  await page.getByText("No role of bob grants orders:write.").waitFor();
  await page.getByLabel("If the role").selectOption("order-reader");
  await page.getByRole("button", { name: "Preview" }).click();
  await page.getByText("1 user would gain or lose something. 1 of 1 decisions on record would be made otherwise.").waitFor();
  await page.getByText("+ orders:write").waitFor();
  const { role } = await server.call("GET", "/v1/roles/order-reader");
  assert.deepEqual(role.permissions, ["orders:list", "orders:read"]);
});
