// Every screen with a keyboard alone, for those who cannot see it, and on a phone.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, test } from "node:test";
import { close, open, shoot, signedIn, signIn } from "./harness.js";
import { openShop, screens } from "./shop.js";
import { loaded } from "./wait.js";

after(close);

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/**
 * Serious faults, as axe-core finds them.
 * @param {import("playwright-core").Page} page
 */
async function faults(page) {
  // Not by a script element: the content security policy refuses that. What is
  // evaluated by the debugger is not the page's.
  await page.evaluate(axe);
  return page.evaluate(async () => {
    // @ts-expect-error: the script above
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter((/** @type {any} */ v) => ["serious", "critical"].includes(v.impact))
      .map((/** @type {any} */ v) => `${v.id}: ${v.nodes.map((/** @type {any} */ n) => `${n.target} ${n.failureSummary}`).join("; ")}`);
  });
}

/** Animations end before colors are judged. @param {import("playwright-core").Page} page */
const settled = (page) => page.evaluate(() => Promise.all(document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity).map((a) => a.finished.catch(() => undefined))));

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test(`axe-core finds no serious fault: ${colorScheme}`, async (t) => {
    const { server, page } = await open(t, { context: { colorScheme, reducedMotion: "reduce" } });
    const shop = await openShop(server);
    for (let i = 0; i < 8; i++) await shop.authorize(shop.people.bob.id, "orders:read", { resource: "orders/1" });
    await page.goto("/console/");
    assert.deepEqual(await faults(page), [], "sign-in");
    await signIn(page, server.admin);
    const asked = `/console/try?${new URLSearchParams({ user: shop.people.alice.id, permission: "orders:refund" })}`;
    for (const path of [...screens, asked, `/console/users/${shop.people.alice.id}`, "/console/no/such/page"]) {
      await page.goto(path);
      await loaded(page);
      await settled(page);
      assert.deepEqual(await faults(page), [], path);
    }
    await page.goto("/console/audit");
    await page.getByRole("button", { name: /show everything about it/ }).first().click();
    await page.getByRole("dialog").waitFor();
    assert.deepEqual(await faults(page), [], "an event");
    await page.goto("/console/routes");
    await page.getByRole("button", { name: "New route" }).click();
    await page.getByRole("dialog").waitFor();
    assert.deepEqual(await faults(page), [], "a new route");
  });
}

test("by keyboard alone: sign in, go to a screen, open and close what is there", async (t) => {
  const { server, page } = await open(t);
  await openShop(server);
  await page.goto("/console/signing-keys");
  await page.getByLabel("User name").waitFor();
  const type = (/** @type {string} */ text) => page.keyboard.type(text);
  const press = (/** @type {string[]} */ ...keys) => keys.reduce((done, key) => done.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () => page.evaluate(() => (document.activeElement?.getAttribute("aria-label") || document.activeElement?.textContent || "").trim());
  /** @param {RegExp} name */
  const tabTo = async (name) => {
    for (let i = 0; i < 60; i++) {
      if (name.test(await focused())) return;
      await press("Tab");
    }
    assert.fail(`Tab does not reach ${name}, but ${await focused()}`);
  };

  /** Waits for the focus, which menus and dialogs move in their own time. @param {RegExp} name */
  const focusOn = (name) =>
    page.waitForFunction(
      (source) => new RegExp(source).test((document.activeElement?.getAttribute("aria-label") || document.activeElement?.textContent || "").trim()),
      name.source,
    );

  await type(server.admin.username); // the field has the focus
  await press("Tab");
  await type(server.admin.password);
  await press("Enter");
  await signedIn(page);

  await page.getByRole("row").nth(1).waitFor();
  await press("Tab");
  await tabTo(/^Skip to the content$/);
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "content");
  await tabTo(/^Rotate$/);
  await press("Enter");
  await page.getByRole("dialog").waitFor();
  for (let i = 0; i < 8; i++) {
    await press("Tab");
    assert.ok(await page.evaluate(() => document.querySelector("[role=dialog]")?.contains(document.activeElement)), "the focus left the dialog");
  }
  await press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await focusOn(/^Rotate$/);

  await tabTo(/^Account of/);
  await press("Enter");
  await page.getByRole("menu").waitFor();
  await press("Escape");
  await page.getByRole("menu").waitFor({ state: "hidden" });
  await focusOn(/^Account of/);
  await press("Shift+Tab", "Enter");
  await focusOn(/^As the system$/);
  await press("ArrowDown");
  await focusOn(/^Light$/);
  await press("ArrowDown");
  await focusOn(/^Dark$/);
  await press("Enter");
  await page.waitForFunction(() => getComputedStyle(document.documentElement).colorScheme === "dark");

  await page.evaluate(() => document.body.focus());
  await tabTo(/^Try a decision$/);
  await press("Enter");
  await page.getByRole("heading", { name: "Try a decision" }).waitFor();
  await page.waitForFunction(() => document.activeElement?.id === "content");
  await press("Tab");
  await type("bob");
  await page.getByRole("option", { name: "bob" }).waitFor();
  await press("ArrowDown", "Enter", "Tab");
  await type("orders:read");
  await page.getByRole("option", { name: "orders:read" }).waitFor();
  await press("Escape", "Tab", "Tab", "Tab", "Enter");
  await page.getByText("A role of bob grants orders:read.").waitFor();
});

test("on a phone nothing is wider than the screen", async (t) => {
  const { server, page } = await open(t, { context: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true } });
  const shop = await openShop(server);
  for (let i = 0; i < 7; i++) await shop.authorize(shop.people.bob.id, "orders:read", { resource: `orders/${"4".repeat(200)}` });
  await page.goto("/console/");
  await signIn(page, server.admin);
  const asked = `/console/try?${new URLSearchParams({ user: shop.people.alice.id, permission: "orders:refund", resource: `orders/${"4".repeat(200)}` })}`;
  for (const path of [...screens, asked, `/console/users/${shop.people.alice.id}`]) {
    await page.goto(path);
    await loaded(page);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(wider, 0, path);
  }
  await page.getByRole("button", { name: "Navigation" }).tap();
  await page.getByRole("dialog").getByRole("link", { name: "Audit log" }).tap();
  await page.getByRole("heading", { name: "Audit log" }).waitFor();
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await shoot(page, "phone");
});
