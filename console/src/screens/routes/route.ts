import type { Route } from "@tollgate/routes_pb.js";

/** What a request on the route needs, for people. */
export function needs(route: Route): { text: string; tone: "plain" | "accent" | "warn" } {
  if (route.public) return { text: "nothing: public", tone: "warn" };
  if (route.authenticated) return { text: "any good credential", tone: "plain" };
  return { text: route.permission, tone: "accent" };
}

export const words = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);
