import type { APIKey, Session } from "@tollgate/auth_pb.js";
import { Effect, type UserPermission } from "@tollgate/roles_pb.js";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { all, countedAll, type All } from "@/lib/all";
import { auth, roles } from "@/lib/api/clients";
import { problem } from "@/lib/api/problem";
import { counted, relative } from "@/lib/format";
import { device } from "@/lib/device";

export const sessionsOf = (id: string, signal: AbortSignal): Promise<All<Session>> =>
  all(async (pageToken) => {
    const answer = await auth.listSessions({ id, pageSize: 250, pageToken }, { signal });
    return { items: answer.sessions, next: answer.nextPageToken };
  });

export const isLive = (key: APIKey): boolean => !key.revokedAt && !(key.expiresAt && timestampMs(key.expiresAt) <= Date.now());

/** The keys of a user that work now. */
export async function keysOf(userId: string, signal: AbortSignal): Promise<All<APIKey>> {
  const found = await all(async (pageToken) => {
    const answer = await auth.listAPIKeys({ userId, pageSize: 250, pageToken }, { signal });
    return { items: answer.apiKeys, next: answer.nextPageToken };
  });
  return { ...found, items: found.items.filter(isLive) };
}

export const permissionsOf = (userId: string, signal: AbortSignal): Promise<All<UserPermission>> =>
  all(async (pageToken) => {
    const answer = await roles.listUserPermissions({ userId, pageSize: 250, pageToken }, { signal });
    return { items: answer.permissions, next: answer.nextPageToken };
  }, 5000);

/** "Ends 3 sessions of mia: Firefox on Linux at 192.0.2.7, 3 minutes ago; and 2 more." */
export async function endsSessions(id: string, username: string, signal: AbortSignal): Promise<string> {
  const { items, more } = await sessionsOf(id, signal);
  if (items.length === 0) return `${username} has no live session.`;
  const shown = items.slice(0, 3).map(where);
  const rest = items.length - shown.length;
  return `Ends ${countedAll({ items, more }, (n) => counted(n, "session"))} of ${username}: ${shown.join("; ")}${rest > 0 ? `; and ${rest} more` : ""}.`;
}

export function where(session: Session): string {
  const seen = session.refreshedAt ?? session.createdAt;
  return `${device(session.userAgent)} at ${session.ip || "an unknown address"}${seen ? `, ${relative(timestampMs(seen) - Date.now())}` : ""}${session.current ? " (yours, here)" : ""}`;
}

/** "Stops 2 API keys: deploy, billing." Who may not list them is told so. */
export async function stopsKeys(id: string, username: string, signal: AbortSignal, verb = "Stops"): Promise<string> {
  try {
    const { items, more } = await keysOf(id, signal);
    if (items.length === 0) return `${username} has no API key that works.`;
    const shown = items.slice(0, 5).map((key) => key.name);
    const rest = items.length - shown.length;
    return `${verb} ${countedAll({ items, more }, (n) => counted(n, "API key"))}: ${shown.join(", ")}${rest > 0 ? ` and ${rest} more` : ""}.`;
  } catch (cause) {
    if (problem(cause).denied) return `${verb} all API keys of ${username}; you may not see how many there are.`;
    throw cause;
  }
}

/** What somebody may no longer do, or is no longer denied, without one of their roles. */
export async function losesRole(userId: string, username: string, role: string, signal: AbortSignal): Promise<string[]> {
  const { items, more } = await permissionsOf(userId, signal);
  const same = (a: UserPermission, b: UserPermission) =>
    a.grant?.permission === b.grant?.permission && a.grant?.condition === b.grant?.condition && (a.grant?.effect === Effect.DENY) === (b.grant?.effect === Effect.DENY);
  const only = items.filter((p) => p.role === role && !items.some((other) => other.role !== role && same(p, other)));
  const allows = [...new Set(only.filter((p) => p.grant?.effect !== Effect.DENY).map(({ grant }) => text(grant)))];
  const denies = [...new Set(only.filter((p) => p.grant?.effect === Effect.DENY).map(({ grant }) => text(grant)))];
  const lines: string[] = [];
  if (allows.length > 0) lines.push(`${username} loses ${counted(allows.length, "permission")}: ${some(allows)}.`);
  if (denies.length > 0) lines.push(`${username} is no longer denied ${some(denies)}.`);
  if (lines.length === 0) lines.push(`Nothing changes for ${username}: other roles grant the same.`);
  if (more) lines.push("There is more than could be looked at.");
  return lines;
}

const text = (grant: UserPermission["grant"]) => `${grant?.permission ?? ""}${grant?.condition ? " (under a condition)" : ""}`;

/** The first few of a list, and how many more there are. */
export const some = (list: readonly string[], most = 6): string =>
  list.slice(0, most).join(", ") + (list.length > most ? ` and ${list.length - most} more` : "");
