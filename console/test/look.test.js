// How the screens of users, roles, keys and limits look: to axe, in both themes, on a phone.
import { after, test } from "node:test";
import { close } from "./harness.js";
import { accessible, dialog, fits, openAt } from "./screens.js";

after(close);

const long = "a-name-that-is-as-long-as-names-may-be-and-has-no-place-to-break";

/** Something on every screen. @param {import("./server.js").Server} server */
async function fill(server) {
  const words = "Words that go on for longer than a phone is wide, ".repeat(4);
  await server.call("POST", "/v1/roles", { name: "packer", description: words, permissions: ["orders:read", "orders:pack"] });
  await server.call("POST", "/v1/roles", {
    name: long, permissions: [`orders:${long}`], inherits: ["packer"],
    grants: [{ permission: "orders:write", condition: `resource.attributes.team == "${long}"`, effect: "EFFECT_DENY" }],
  });
  const mia = await server.person("mia", ["packer", long]);
  const { user: service } = await server.call("POST", "/v1/users", { username: long, displayName: words, kind: "USER_KIND_SERVICE" });
  await server.call("PATCH", `/v1/users/${mia.id}`, { attributes: { team: long.repeat(3) } });
  await server.login(mia.username, mia.password);
  for (const userId of [mia.id, service.id]) await server.call("POST", "/v1/api-keys", { userId, name: long, scopes: ["orders:read", `orders:${long}`] });
  await server.call("POST", "/v1/limits", { name: long, description: words, subject: "SUBJECT_CUSTOM", contextKey: "tenant", permission: "orders:*", rate: 5, period: "3600s", mode: "MODE_SHADOW", overrides: [{ key: long.repeat(3), rate: 9 }] });
  for (let i = 0; i < 6; i++) await server.call("POST", "/v1/limits/check", { limit: long, key: "acme" });
  return [
    "users", "users?new=1", `users/${mia.id}`, `users/${mia.id}?tab=roles`, `users/${mia.id}?tab=permissions`, `users/${mia.id}?tab=sessions`, `users/${mia.id}?tab=keys`,
    "roles", `roles/${long}`, `roles/${long}?tab=members`, `roles/${long}?tab=edit`, "new-role", "api-keys", "api-keys?new=1",
    "limits", `limits/${long}?key=acme`, `limits/${long}?tab=overrides`, `limits/${long}?tab=edit`, "new-limit",
  ];
}

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test(`axe finds no serious fault, ${colorScheme}`, async (t) => {
    const { server, page } = await openAt(t, "/console/users", { context: { colorScheme, reducedMotion: "reduce" } });
    for (const path of await fill(server)) {
      await page.goto(`/console/${path}`);
      await ready(page);
      await accessible(page, `${path}, ${colorScheme}`);
    }
    await page.goto("/console/roles/packer");
    await page.getByRole("button", { name: "Delete…" }).click();
    await dialog(page).getByText(/loses it at once/).waitFor();
    await accessible(page, `a question, ${colorScheme}`);
  });
}

test("a phone shows all of it", async (t) => {
  const { server, page } = await openAt(t, "/console/users", { context: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true } });
  for (const path of await fill(server)) {
    await page.goto(`/console/${path}`);
    await ready(page);
    await fits(page, path);
  }
});

/** Waits until a page has what it asked for. @param {import("playwright-core").Page} page */
async function ready(page) {
  await page.waitForFunction(() => document.querySelector("main h1, [role=dialog] h2") && !document.querySelector("[role=status][aria-label^=Loading]"));
}
