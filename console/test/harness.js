// A fresh server and a real browser for each test, which fails on whatever a page of the
// console must not do: an uncaught error, an error in the browser's log, a violation of the
// content security policy, a request to another origin.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { cleanup } from "./cleanup.js";
import { startServer } from "./server.js";
import { count, patience } from "./wait.js";

const here = path.dirname(fileURLToPath(import.meta.url));

/** Where pictures for the docs go, and what the browser saw when a test failed. */
const pictures = path.join(here, "../../docs/console");
const failures = path.join(here, "failed");

/** @type {Promise<import("playwright-core").Browser> | undefined} */
let browser;

/** The one browser of a test file, from Debian unless TOLLGATE_CHROMIUM names another. */
export function launch() {
  browser ??= chromium.launch({
    executablePath: process.env.TOLLGATE_CHROMIUM || "/usr/bin/chromium",
    chromiumSandbox: process.getuid?.() !== 0,
  });
  return browser;
}

/**
 * A server and a browser of its own for one test; both are gone when it ends.
 * @param {import("node:test").TestContext} t
 * @param {{flags?: string[], context?: import("playwright-core").BrowserContextOptions}} [options]
 */
export async function open(t, options = {}) {
  const server = await startServer(t, options.flags);
  return { server, ...(await visit(t, server, options.context)) };
}

/**
 * Another person's browser: cookies and storage of its own. The test fails when one of its
 * pages does what it must not, unless watch.allow was told of it.
 * @param {import("node:test").TestContext} t
 * @param {import("./server.js").Server} server
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function visit(t, server, options = {}) {
  const context = await (await launch()).newContext({ baseURL: server.url, locale: "en-US", timezoneId: "UTC", ...options });
  context.setDefaultTimeout(patience);
  const watch = new Watch(new URL(server.url).origin);
  await watch.follow(context);
  context.on("page", count);
  const page = await context.newPage();
  cleanup(t, async () => {
    // Node 20 has it, its types do not.
    if (/** @type {{passed?: boolean}} */ (t).passed === false) await picture(page, path.join(failures, `${t.name.replace(/\W+/g, "-")}.png`)).catch(() => undefined);
    await context.close();
    assert.deepEqual(watch.faults, [], "what the pages did that they must not");
  });
  return { context, page, watch };
}

/** What pages do that they must not. */
class Watch {
  /** @type {string[]} */
  faults = [];
  /** @type {RegExp[]} */
  #allowed = [];
  /** @type {string} */
  #origin;

  /** @param {string} origin */
  constructor(origin) {
    this.#origin = origin;
  }

  /** Lets pass what matches, for a test that brings it about. @param {RegExp} pattern */
  allow(pattern) {
    this.#allowed.push(pattern);
  }

  /** @param {string} text */
  #fault(text) {
    if (!this.#allowed.some((pattern) => pattern.test(text))) this.faults.push(text);
  }

  /** @param {import("playwright-core").BrowserContext} context */
  async follow(context) {
    await context.exposeBinding("reportViolation", (_, text) => this.#fault(`policy: ${text}`));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (e) => {
        // @ts-expect-error: the binding above
        window.reportViolation(`${e.effectiveDirective} ${e.blockedURI} ${e.sample}`);
      });
    });
    context.on("request", (request) => {
      const url = new URL(request.url());
      if (url.origin !== this.#origin && !["data:", "blob:"].includes(url.protocol)) this.#fault(`request: ${request.url()}`);
    });
    context.on("weberror", (e) => this.#fault(`uncaught: ${e.error().stack ?? e.error()}`));
    context.on("console", (message) => {
      const text = message.text();
      // A refused call is an answer like any other; the browser logs it all the same.
      if (message.type() === "error" && /^Failed to load resource: the server responded with a status of (4\d\d|503)/.test(text)) return;
      if (["error", "warning"].includes(message.type())) this.#fault(`${message.type()}: ${text}`);
    });
  }
}

/**
 * Signs in at the page that is shown, and waits until it shows something else.
 * @param {import("playwright-core").Page} page
 * @param {{username: string, password: string, code?: string}} who
 */
export async function signIn(page, who) {
  await page.locator("input[name=username]").fill(who.username);
  await page.locator("input[name=password]").fill(who.password);
  await page.locator("button[type=submit]").click();
  if (who.code !== undefined) {
    await page.locator("input[name=code]").fill(who.code);
    await page.locator("button[type=submit]").click();
  }
  await signedIn(page);
}

/** Waits until a page shows that somebody is signed in. @param {import("playwright-core").Page} page */
export async function signedIn(page) {
  await page.getByRole("button", { name: /^Account of / }).waitFor();
}

/** Waits until a page asks to sign in. @param {import("playwright-core").Page} page @param {number} [timeout] */
export async function signedOut(page, timeout = patience) {
  await page.locator("input[name=password]").waitFor({ timeout });
}

/**
 * Makes a request from a page, with what the browser adds to it.
 * @param {import("playwright-core").Page} page
 * @param {string} url
 * @param {RequestInit} [init]
 */
export function request(page, url, init = {}) {
  return page.evaluate(
    async ([url, init]) => {
      const response = await fetch(/** @type {string} */ (url), /** @type {RequestInit} */ (init));
      const text = await response.text();
      return { status: response.status, text, reason: /"reason":"(\w+)"/.exec(text)?.[1] ?? "" };
    },
    /** @type {const} */ ([url, init]),
  );
}

/**
 * A picture for the docs, docs/console/NAME.png, when UPDATE=1.
 * @param {import("playwright-core").Page} page
 * @param {string} name
 */
export async function shoot(page, name) {
  if (process.env.UPDATE === "1") await picture(page, path.join(pictures, `${name}.png`));
}

/** @param {import("playwright-core").Page} page @param {string} file */
async function picture(page, file) {
  await mkdir(path.dirname(file), { recursive: true });
  await page.screenshot({ path: file, animations: "disabled", caret: "hide" });
}

/** Ends the browser: call it when a file's tests are over. */
export async function close() {
  await (await browser)?.close();
  browser = undefined;
}
