import Activity from "@lucide/svelte/icons/activity";
import KeyRound from "@lucide/svelte/icons/key-round";
import LayoutDashboard from "@lucide/svelte/icons/layout-dashboard";
import type { Screen } from "./screen";

/** Every screen, in the order of the navigation. */
export const screens: readonly Screen[] = [
  {
    name: "overview",
    title: "Overview",
    icon: LayoutDashboard,
    needs: "tollgate:overview:read",
    group: "Watch",
    pages: { "/": () => import("./overview/Overview.svelte") },
  },
  {
    name: "audit",
    title: "Audit log",
    icon: Activity,
    needs: "tollgate:audit:read",
    group: "Watch",
    pages: { "/audit": () => import("./audit/Audit.svelte") },
  },
  {
    name: "signing-keys",
    title: "Signing keys",
    icon: KeyRound,
    needs: "tollgate:signing-keys:read",
    group: "Server",
    pages: { "/signing-keys": () => import("./signing-keys/SigningKeys.svelte") },
  },
];
