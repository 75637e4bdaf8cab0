import type { Role, RoleMember } from "@tollgate/roles_pb.js";
import { all, countedAll, type All } from "@/lib/all";
import { roles } from "@/lib/api/clients";
import { counted } from "@/lib/format";
import { some } from "../users/impact";

export const membersOf = (role: string, signal: AbortSignal): Promise<All<RoleMember>> =>
  all(async (pageToken) => {
    const answer = await roles.listRoleMembers({ role, pageSize: 250, pageToken }, { signal });
    return { items: answer.members, next: answer.nextPageToken };
  });

/** The roles that have what a role grants as well. */
export async function inheritorsOf(name: string, signal: AbortSignal): Promise<string[]> {
  const { items } = await all<Role>(async (pageToken) => {
    const answer = await roles.listRoles({ pageSize: 250, pageToken }, { signal });
    return { items: answer.roles, next: answer.nextPageToken };
  }, 10_000);
  return items.filter((role) => role.inherits.includes(name)).map((role) => role.name);
}

/** What the removal of a role means. */
export async function deletes(role: Role, signal: AbortSignal): Promise<string[]> {
  const [members, inheritors] = await Promise.all([membersOf(role.name, signal), inheritorsOf(role.name, signal)]);
  const lines: string[] = [];
  if (inheritors.length > 0) lines.push(`${counted(inheritors.length, "role")} ${inheritors.length === 1 ? "inherits" : "inherit"} it, which keeps it from being deleted: ${some(inheritors)}. Take it out of them first.`);
  const names = members.items.map((member) => member.username || member.userId);
  lines.push(
    names.length === 0
      ? "Nobody holds it."
      : `${countedAll(members, (n) => counted(n, "user"))} ${names.length === 1 && !members.more ? "loses" : "lose"} it at once: ${some(names)}.`,
  );
  if (names.length > 0) lines.push(`With it goes what it grants: ${counted(role.permissions.length, "permission")} and ${counted(role.grants.length, "grant")}, unless another role grants the same.`);
  return [...lines, "This cannot be undone."];
}
