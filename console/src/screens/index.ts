import Activity from "@lucide/svelte/icons/activity";
import FlaskConical from "@lucide/svelte/icons/flask-conical";
import Gauge from "@lucide/svelte/icons/gauge";
import KeyRound from "@lucide/svelte/icons/key-round";
import KeySquare from "@lucide/svelte/icons/key-square";
import LayoutDashboard from "@lucide/svelte/icons/layout-dashboard";
import ShieldCheck from "@lucide/svelte/icons/shield-check";
import Users from "@lucide/svelte/icons/users";
import Waypoints from "@lucide/svelte/icons/waypoints";
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
    name: "try",
    title: "Try a decision",
    icon: FlaskConical,
    needs: "tollgate:explain",
    group: "Watch",
    pages: { "/try": () => import("./try/Try.svelte") },
  },
  {
    name: "users",
    title: "Users",
    icon: Users,
    needs: "tollgate:users:read",
    group: "Access",
    pages: {
      "/users": () => import("./users/Users.svelte"),
      "/users/:id": () => import("./users/User.svelte"),
    },
  },
  {
    name: "roles",
    title: "Roles",
    icon: ShieldCheck,
    needs: "tollgate:roles:read",
    group: "Access",
    pages: {
      "/roles": () => import("./roles/Roles.svelte"),
      "/roles/:name": () => import("./roles/Role.svelte"),
      "/new-role": () => import("./roles/NewRole.svelte"),
    },
  },
  {
    name: "api-keys",
    title: "API keys",
    icon: KeySquare,
    needs: "tollgate:keys:read",
    group: "Access",
    pages: { "/api-keys": () => import("./api-keys/ApiKeys.svelte") },
  },
  {
    name: "limits",
    title: "Limits",
    icon: Gauge,
    needs: "tollgate:limits:read",
    group: "Access",
    pages: {
      "/limits": () => import("./limits/Limits.svelte"),
      "/limits/:name": () => import("./limits/Limit.svelte"),
      "/new-limit": () => import("./limits/NewLimit.svelte"),
    },
  },
  {
    name: "routes",
    title: "Routes",
    icon: Waypoints,
    needs: "tollgate:routes:read",
    group: "Server",
    pages: { "/routes": () => import("./routes/Routes.svelte") },
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
