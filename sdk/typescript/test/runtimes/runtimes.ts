// Runs service.ts on a runtime, each with the binary that npm has for this machine, and
// with the built package under its name.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { build, transformWithOxc } from "vite";
import type { config } from "./config.js";

const sdk = join(import.meta.dirname, "../..");

export interface Running {
  readonly url: string;
  stop(): Promise<void>;
}

interface Runtime {
  /** What starts the service; it writes its port. */
  readonly main: { readonly name: string; readonly text: string };
  /** The program and its arguments, in the directory of the service. */
  command(): string[];
}

export const runtimes: Record<string, Runtime> = {
  node: {
    main: {
      name: "main.js",
      text: `import { serve } from "@hono/node-server";
import service from "./service.js";
serve({ fetch: service.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => console.log(port));`,
    },
    command: () => [process.execPath, "main.js"],
  },
  bun: {
    main: {
      name: "main.js",
      text: `import service from "./service.js";
console.log(Bun.serve({ fetch: service.fetch, port: 0, hostname: "127.0.0.1" }).port);`,
    },
    command: () => [binary({ x64: "@oven/bun-linux-x64/bin/bun", arm64: "@oven/bun-linux-aarch64/bin/bun" }), "main.js"],
  },
  deno: {
    main: {
      name: "main.js",
      text: `import service from "./service.js";
Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: ({ port }) => console.log(port) }, service.fetch);`,
    },
    // The network is all that it may use.
    command: () => [
      binary({ x64: "@deno/linux-x64-glibc/deno", arm64: "@deno/linux-arm64-glibc/deno" }),
      ...["run", "--quiet", "--no-prompt", "--no-remote", "--cached-only", "--node-modules-dir=manual", "--allow-net=127.0.0.1", "main.js"],
    ],
  },
  workers: {
    main: {
      name: "workerd.capnp",
      text: `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker", esModule = embed "worker.js")],
      compatibilityDate = "2026-01-01",
      globalOutbound = "network")),
    (name = "network", network = (allow = ["private"]))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")]);`,
    },
    command: () => [
      binary({ x64: "@cloudflare/workerd-linux-64/bin/workerd", arm64: "@cloudflare/workerd-linux-arm64/bin/workerd" }),
      ...["serve", "workerd.capnp", "--control-fd=1"],
    ],
  },
};

function binary(paths: Record<string, string>): string {
  const path = join(import.meta.dirname, "node_modules", paths[process.arch] ?? "");
  if (process.platform !== "linux" || !paths[process.arch] || !existsSync(path)) {
    throw new Error("the runtimes are missing: npm --prefix test/runtimes ci, on Linux with glibc");
  }
  return path;
}

/** Starts the service. */
export async function run(runtime: Runtime, settings: typeof config): Promise<Running> {
  const dir = await mkdtemp(join(tmpdir(), "tollgate-runtime-"));
  await mkdir(join(dir, "node_modules/@tollgate"), { recursive: true });
  await symlink(sdk, join(dir, "node_modules/@tollgate/sdk"));
  await symlink(join(sdk, "node_modules/@hono"), join(dir, "node_modules/@hono"));
  await writeFile(join(dir, "package.json"), '{"type": "module"}');
  await writeFile(join(dir, "config.js"), `export const config = ${JSON.stringify(settings)};`);
  for (const name of ["service", "audit"]) {
    const source = await readFile(join(import.meta.dirname, `${name}.ts`), "utf8");
    await writeFile(join(dir, `${name}.js`), (await transformWithOxc(source, `${name}.ts`)).code);
  }
  await writeFile(join(dir, runtime.main.name), runtime.main.text);
  if (runtime === runtimes["workers"]) {
    await bundle(dir);
  }
  const [program = "", ...args] = runtime.command();
  const child = spawn(program, args, {
    cwd: dir,
    env: { HOME: dir, DENO_DIR: join(dir, "deno"), DENO_NO_UPDATE_CHECK: "1", DO_NOT_TRACK: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  return {
    url: `http://127.0.0.1:${await port(child)}`,
    async stop() {
      child.kill("SIGKILL");
      await exited;
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Makes one module of all, as the tools for Workers do. */
async function bundle(dir: string): Promise<void> {
  await build({
    root: dir,
    configFile: false,
    logLevel: "error",
    ssr: { target: "webworker", noExternal: true },
    build: { ssr: "service.js", outDir: dir, emptyOutDir: false, rolldownOptions: { output: { entryFileNames: "worker.js" } } },
  });
}

/** Returns the port that a runtime writes: alone, or in an object as workerd does. */
async function port(child: ChildProcess & { stdout: Readable; stderr: Readable }): Promise<number> {
  let log = "";
  child.stderr.on("data", (text) => {
    log += String(text);
  });
  for await (const line of createInterface(child.stdout)) {
    const said: unknown = JSON.parse(line);
    if (typeof said === "number") {
      return said;
    }
    if (typeof said === "object" && said !== null && "port" in said) {
      return Number(said.port);
    }
  }
  throw new Error(`the runtime ended: ${log}`);
}
