import KeyRound from "@lucide/svelte/icons/key-round";
import type { Screen } from "./screen";

/** Every screen, in the order of the navigation. */
export const screens: readonly Screen[] = [
  {
    name: "signing-keys",
    title: "Signing keys",
    icon: KeyRound,
    needs: "tollgate:signing-keys:read",
    group: "Server",
    pages: { "/signing-keys": () => import("./signing-keys/SigningKeys.svelte") },
  },
];
