import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

export default defineConfig({
  base: "/console/",
  plugins: [svelte()],
  resolve: {
    alias: {
      "@gen": path("../sdk/typescript/src/gen"),
      "@tollgate": path("../sdk/typescript/src/gen/tollgate/v1"),
      "@": path("src"),
    },
    // The generated client is outside of this directory, and resolves to this one's runtime.
    dedupe: ["@bufbuild/protobuf"],
  },
  build: {
    target: "es2022",
    // The content security policy lets through neither data: nor inline code.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: {
    proxy: Object.fromEntries(
      ["/tollgate.v1.", "/console/session/"].map((prefix) => [prefix, "http://127.0.0.1:8000"]),
    ),
  },
});
