import type { Event } from "@tollgate/audit_pb.js";

/** The call that a recorded refusal was about, as "Try a decision" takes it. */
export function question(event: Event): Record<string, string> | undefined {
  const permission = event.details.permission ?? "";
  if (event.action !== "access.denied" || !event.actor?.userId || !permission || permission.startsWith("tollgate:")) return undefined;
  return { user: event.actor.userId, permission, ...(event.resource && { resource: event.resource }), ...(event.ip && { ip: event.ip }) };
}
