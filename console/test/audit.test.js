// The audit log searched: filters, a link to one event, and the counts above the list.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { close, open, signIn } from "./harness.js";
import { openShop } from "./shop.js";
import { inTime } from "./wait.js";

after(close);

/** Records what a shop did, and returns the events' ids. @param {import("./server.js").Server} server */
async function record(server) {
  const shop = await openShop(server);
  const events = [
    { resource: "orders/1", ip: "203.0.113.7", requestId: "request-1", actor: { username: "mia", sessionId: "session-1" }, reason: "out_of_stock" },
    { resource: "orders/2", ip: "203.0.113.200", requestId: "request-2", actor: { username: "mia", sessionId: "session-2" } },
    { resource: "parcels/3", ip: "2001:db8::3", requestId: "request-3", actor: { username: "leo", apiKeyId: "key-3" } },
  ].map((event) => ({ action: "shop.tried", outcome: "OUTCOME_FAILURE", ...event }));
  const { status, body } = await server.as(shop.key, "POST", "/v1/audit/events/batch", { events });
  assert.equal(status, 200);
  await inTime("an event is found by its address", async () => {
    const { events } = await server.call("GET", "/v1/audit/events?action=shop.*&address=2001:db8::/32");
    return events.length > 0 || undefined;
  });
  return /** @type {string[]} */ (body.ids);
}

test("events are found by each filter, and the address keeps it", async (t) => {
  const { server, page } = await open(t);
  await record(server);
  await page.goto("/console/audit?action=shop.tried");
  await signIn(page, server.admin);
  const rows = page.getByRole("row").filter({ hasText: "shop.tried" });
  await rows.nth(2).waitFor();
  await page.getByText("More filters").click();
  for (const [label, value, name, found] of /** @type {const} */ ([
    ["Address or network", "203.0.113.0/25", "address", ["orders/1"]],
    ["Resource", "orders/*", "resource", ["orders/2", "orders/1"]],
    ["Reason", "out_of_stock", "reason", ["orders/1"]],
    ["Session", "session-2", "session", ["orders/2"]],
    ["API key", "key-3", "key", ["parcels/3"]],
    ["Request", "request-1", "request", ["orders/1"]],
  ])) {
    await page.getByLabel(label, { exact: true }).fill(value);
    await page.getByRole("button", { name: "Apply" }).click();
    await page.waitForURL((url) => url.searchParams.get(name) === value);
    await page.waitForFunction((n) => document.querySelectorAll("tbody tr").length === n, found.length);
    const shown = await rows.allInnerTexts();
    for (const [i, resource] of found.entries()) assert.ok(shown[i]?.includes(resource), `${name}: ${shown.join(" | ")}`);
    await page.reload(); // with the rare filters open, if one is set
    await rows.first().waitFor();
    assert.equal(await page.getByLabel(label, { exact: true }).inputValue(), value);
    await page.getByLabel(label, { exact: true }).fill("");
    await page.getByRole("button", { name: "Apply" }).click();
    await rows.nth(2).waitFor();
    await page.getByText("More filters").waitFor();
    if (!(await page.getByLabel("Reason", { exact: true }).isVisible())) await page.getByText("More filters").click();
  }
  await page.getByLabel("Address or network").fill("somewhere");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("must be an address or a network").first().waitFor();
});

test("what comes in passes the same filters", async (t) => {
  const { server, page } = await open(t);
  const shop = await openShop(server);
  await page.goto("/console/audit?resource=orders/*&address=203.0.113.0/24");
  await signIn(page, server.admin);
  await page.getByRole("status").getByText("Live").waitFor();
  for (const [resource, ip] of [["orders/1", "192.0.2.7"], ["parcels/2", "203.0.113.7"], ["orders/3", "203.0.113.7"]]) {
    assert.equal((await server.as(shop.key, "POST", "/v1/audit/events", { action: "shop.tried", outcome: "OUTCOME_FAILURE", resource, ip })).status, 200);
  }
  await page.getByRole("row").filter({ hasText: "orders/3" }).waitFor();
  assert.equal(await page.getByRole("row").filter({ hasText: "shop.tried" }).count(), 1);
});

test("a link shows its event, whatever the filters are", async (t) => {
  const { server, page } = await open(t);
  const [id] = await record(server);
  await page.goto(`/console/audit?action=role.create&event=${id}`);
  await signIn(page, server.admin);
  const detail = page.getByRole("dialog");
  await detail.getByText("orders/1", { exact: true }).waitFor();
  await detail.getByRole("link", { name: "session-1" }).click();
  await page.getByRole("row").filter({ hasText: "orders/1" }).waitFor();
  assert.equal(new URL(page.url()).search, "?session=session-1");
  await page.goto("/console/audit?event=00000000-0000-7000-8000-000000000000");
  await page.getByRole("dialog").getByText("There is no such event (any more).").waitFor();
});

test("the counts are read by keyboard, and one hour is shown", async (t) => {
  const { server, page } = await open(t);
  await record(server);
  await page.goto("/console/audit?action=shop.*");
  await signIn(page, server.admin);
  await page.getByRole("heading", { name: "3 events in the last 24 hours" }).waitFor();
  const chart = page.getByRole("group", { name: /^Events by hour and outcome/ });
  await chart.getByRole("img", { name: "Success 0, Denied 0, Failure 3" }).waitFor();
  await chart.focus();
  await page.keyboard.press("ArrowLeft");
  await chart.getByText(/Failure [03]$/).waitFor();
  if ((await chart.getByText(/Failure 3$/).count()) === 0) await page.keyboard.press("ArrowLeft"); // the hour has just ended
  await chart.getByText(/Failure 3$/).waitFor();
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.searchParams.has("after") && url.searchParams.has("before"));
  await page.getByRole("heading", { name: "3 events", exact: true }).waitFor();
  await page.getByRole("row").filter({ hasText: "parcels/3" }).waitFor();
});
