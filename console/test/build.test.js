// What is built, and what the sources must not hold.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { close, open, signIn } from "./harness.js";

after(close);

const source = fileURLToPath(new URL("../src", import.meta.url));
const files = readdirSync(source, { recursive: true, encoding: "utf8" })
  .filter((name) => /\.(svelte|ts)$/.test(name))
  .map((name) => ({ name, text: readFileSync(`${source}/${name}`, "utf8") }));

test("the first load is under 250 kB, compressed", async (t) => {
  const { server, page, context } = await open(t);
  const cdp = await context.newCDPSession(page);
  await cdp.send("Network.enable");
  let bytes = 0;
  cdp.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
  await page.goto("/console/");
  await signIn(page, server.admin);
  await page.getByRole("region", { name: "Health" }).waitFor();
  t.diagnostic(`${Math.round(bytes / 1000)} kB up to the overview`);
  assert.ok(bytes > 50_000, "nothing was counted");
  assert.ok(bytes < 250_000, `the first load has ${bytes} bytes`);
});

test("a screen's code is loaded with the screen", () => {
  const assets = readdirSync(fileURLToPath(new URL("../dist/assets", import.meta.url)));
  for (const screen of ["Overview", "Audit", "Try", "Routes", "SigningKeys", "Users"]) {
    assert.ok(assets.some((name) => name.startsWith(`${screen}-`) && name.endsWith(".js")), `${screen} has no file of its own`);
  }
});

test("data is shown as text only", () => {
  for (const { name, text } of files) {
    assert.doesNotMatch(text, /\{@html/, `${name}: {@html} makes markup of data`);
    assert.doesNotMatch(text, /\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function)\b/, `${name}: makes markup or code of text`);
    assert.doesNotMatch(text, /\sstyle="/, `${name}: style="…" is refused by the content security policy; use style:name={…}`);
    for (const [, value] of text.matchAll(/\b(?:href|src|formaction)=(\{[^}]*\}|"[^"]*")/g)) {
      assert.match(value ?? "", /^(\{href\(|\{back\.href\}|\{location\.pathname\}|"\/console[/{]|"#)/, `${name}: ${value} is not an address of the console's`);
    }
  }
});

test("no file has more than 400 lines", () => {
  for (const { name, text } of files) assert.ok(text.split("\n").length <= 400, `${name} is too long to keep in mind`);
});
