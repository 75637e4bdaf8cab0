// What tests wait for, other than an element.
import { setTimeout } from "node:timers/promises";

/** How long a browser may take for one thing, in milliseconds. */
export const patience = 10_000;

/** @typedef {import("playwright-core").Page} Page */

/** @type {WeakMap<Page, Calls>} */
const pages = new WeakMap();

/** What a page asks for. Streams do not count: they stay. */
class Calls {
  begun = 0;
  /** @type {Set<import("playwright-core").Request>} */
  underway = new Set();

  /** @param {Page} page */
  constructor(page) {
    page.on("request", (request) => {
      if (request.isNavigationRequest() && request.frame() === page.mainFrame()) this.underway.clear();
      if (request.headers()["content-type"]?.startsWith("application/connect+")) return;
      this.begun++;
      this.underway.add(request);
    });
    page.on("requestfinished", (request) => this.underway.delete(request));
    page.on("requestfailed", (request) => this.underway.delete(request));
  }
}

/** Counts the calls of a page, from its first one. @param {Page} page */
export function count(page) {
  pages.set(page, new Calls(page));
}

/**
 * Waits until what a page shows is all that it will show by itself. Two frames after the
 * last answer, what it brought is drawn, and what it leads to is asked for.
 * @param {Page} page
 */
export async function loaded(page) {
  const calls = /** @type {Calls} */ (pages.get(page));
  await page.locator("main h1").waitFor();
  for (const late = performance.now() + patience; ; ) {
    const { begun, underway } = calls;
    const idle = underway.size === 0;
    const waits = await page.evaluate(async () => {
      await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
      const parts = [...document.querySelectorAll("main [aria-busy=true], main [role=status]")];
      return parts.some((e) => e.ariaBusy === "true" || (e.ariaLabel ?? e.textContent).startsWith("Loading"));
    });
    if (idle && !waits && underway.size === 0 && calls.begun === begun) return;
    if (performance.now() > late) throw new Error(`${page.url()} still waits for ${[...underway].map((r) => r.url()).join(", ") || "what it asked for"}`);
  }
}

/** Waits until a page that is about to sign in has its stream of what ends sessions. @param {Page} page */
export async function watching(page) {
  await page.waitForResponse(/WatchEvents$/);
}

/**
 * Asks again and again until there is an answer, for what another process does in its own
 * time and tells nobody.
 * @template T
 * @param {string} what
 * @param {() => Promise<T | undefined>} ask
 * @returns {Promise<T>}
 */
export async function inTime(what, ask) {
  for (const late = performance.now() + patience; performance.now() < late; ) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await setTimeout(50);
  }
  throw new Error(`not within ${patience} ms: ${what}`);
}
