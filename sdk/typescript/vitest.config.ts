import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const src = (path: string) => fileURLToPath(new URL(`src/${path}`, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^@tollgate\/sdk$/, replacement: src("index.ts") },
      { find: /^@tollgate\/sdk\/gen\/(.*)_pb\.js$/, replacement: src("gen/$1_pb.ts") },
      { find: /^@tollgate\/sdk\/(\w+)$/, replacement: src("$1.ts") },
    ],
  },
  test: { globalSetup: "test/setup.ts", include: ["test/**/*.test.ts"], testTimeout: 20_000 },
});
