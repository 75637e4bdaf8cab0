// What the tests of the screens have in common.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { open, signIn } from "./harness.js";

/**
 * A server, and its administrator signed in at a page of the console.
 * @param {import("node:test").TestContext} t
 * @param {string} path
 * @param {Parameters<typeof open>[1]} [options]
 */
export async function openAt(t, path, options) {
  const opened = await open(t, options);
  await opened.page.goto(path);
  await signIn(opened.page, opened.server.admin);
  return opened;
}

/** The dialog that is shown. @param {import("playwright-core").Page} page */
export const dialog = (page) => page.getByRole("dialog");

/**
 * Reads what a dialog says will happen, and goes on with its button.
 * @param {import("playwright-core").Page} page
 * @param {string} action
 * @param {RegExp[]} says
 * @param {string} [typed] what has to be typed first
 */
export async function confirm(page, action, says, typed) {
  const go = dialog(page).getByRole("button", { name: action, exact: true });
  await go.waitFor();
  for (const pattern of says) await dialog(page).getByText(pattern).first().waitFor();
  if (typed !== undefined) {
    assert.equal(await go.isDisabled(), true, "it goes on without what has to be typed");
    await dialog(page).getByRole("textbox").fill(typed);
  }
  await go.click();
  await dialog(page).waitFor({ state: "detached" });
}

/**
 * Picks an entry of a field that searches.
 * @param {import("playwright-core").Locator} within
 * @param {import("playwright-core").Page} page
 * @param {string} label
 * @param {string} text
 */
export async function pick(within, page, label, text) {
  await within.getByRole("combobox", { name: label }).fill(text);
  await page.getByRole("option", { name: text }).first().click();
}

const axe = createRequire(import.meta.url)("axe-core");

/**
 * Fails on what axe calls serious or critical.
 * @param {import("playwright-core").Page} page
 * @param {string} where
 */
export async function accessible(page, where) {
  await page.evaluate(axe.source);
  /** @type {{id: string, impact: string, nodes: {html: string, failureSummary: string}[]}[]} */
  const violations = await page.evaluate(async () => {
    // @ts-expect-error: the script above
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations;
  });
  const bad = violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(bad, [], where);
}

/** Fails when a page is wider than the window. @param {import("playwright-core").Page} page @param {string} where */
export async function fits(page, where) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok((wide ?? 0) <= (window ?? 0), `${where}: ${wide} pixels wide in a window of ${window}`);
  const out = await page.evaluate(() =>
    [...document.querySelectorAll("main *")]
      .filter((e) => !e.closest("[role=region], .tabs, pre, .only-read-aloud") && e.getBoundingClientRect().right > innerWidth + 1)
      .map((e) => e.outerHTML.slice(0, 120)),
  );
  assert.deepEqual(out, [], `${where}: cut off`);
}
