// Runs once: builds the server's binary unless TOLLGATE_BINARY names one, and starts a
// server that all tests share.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { start } from "./server.js";

declare module "vitest" {
  interface ProvidedContext {
    server: { url: string; token: string };
    key: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!process.env["TOLLGATE_BINARY"]) {
    const root = join(import.meta.dirname, "../../..");
    const binary = join(root, "bin/tollgate");
    execFileSync("go", ["build", "-o", binary, "./server"], { cwd: root, stdio: "inherit" });
    process.env["TOLLGATE_BINARY"] = binary;
  }
  const server = await start();
  const { key } = await server.service("shop", "tollgate:limits:check", "tollgate:audit:record", "tollgate:explain");
  project.provide("server", { url: server.url, token: server.token });
  project.provide("key", key);
  return () => server.stop();
}
