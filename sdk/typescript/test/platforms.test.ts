// What the package needs of its platform.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const src = join(import.meta.dirname, "../src");

test("nothing imports a module of Node, and only jose, Connect and protobuf are loaded", () => {
  const loaded = new Set<string>();
  for (const file of readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"))) {
    for (const [, from] of readFileSync(join(src, file), "utf8").matchAll(/^(?:import|export) (?!type )[^;]*?from "([^."][^"]*)"/gm)) {
      loaded.add(from?.replace(/^((?:@[^/]+\/)?[^/]+).*/, "$1") ?? "");
    }
  }
  expect(loaded).toEqual(new Set(["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web", "jose"]));
});

test("only the verifier loads jose", () => {
  const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  expect(
    files
      .filter((name) => /^import (?!type )[^;]*"jose"/m.test(readFileSync(join(src, name), "utf8")))
      .every((name) => name.startsWith("verifier")),
  ).toBe(true);
});

test("proofs of the audit log load nothing else, and the core does not load them", () => {
  const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  const imports = (name: string) =>
    [...readFileSync(join(src, name), "utf8").matchAll(/^(?:import|export) [^;]*?from "([^"]*)"/gm)].map(([, from = ""]) => from);
  const proofs = files.filter((name) => /^audit[./]/.test(name));
  expect(proofs.flatMap(imports).filter((from) => !/^\.\/(?:audit\/)?\w+\.js$/.test(from))).toEqual([]);
  expect(files.filter((name) => !proofs.includes(name) && imports(name).some((from) => /\baudit[./]/.test(from)))).toEqual([]);
});

test("nothing but the options asks which platform it is on", () => {
  const text = readdirSync(src, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.startsWith("gen") && name !== "options.ts")
    .map((name) => readFileSync(join(src, name), "utf8"))
    .join("\n");
  expect(text).not.toMatch(/\b(?:process|Buffer|Deno|Bun|navigator|window|require)\b\s*[.(]/);
});
