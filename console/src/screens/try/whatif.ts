import type { Grant, Role } from "@tollgate/roles_pb.js";
import { covers } from "@/lib/permission";

export type Edit = "grant" | "grant-if" | "deny" | "revoke";

type Part = Pick<Grant, "permission" | "condition" | "effect" | "description">;

/** The update that makes the edit, for PreviewRole and UpdateRole; lists replace the role's. */
export function update(role: Role, edit: Edit, permission: string, condition: string, deny: number, allow: number) {
  const same = {
    name: role.name,
    permissions: role.permissions,
    grants: role.grants as Part[],
    clearPermissions: false,
    clearGrants: false,
  };
  const grant = (effect: number): Part => ({ permission, condition, effect, description: "" });
  switch (edit) {
    case "grant":
      return { ...same, permissions: [...new Set([...role.permissions, permission])] };
    case "grant-if":
      return { ...same, grants: [...same.grants, grant(allow)] };
    case "deny":
      return { ...same, grants: [...same.grants, grant(deny)] };
    case "revoke": {
      const permissions = role.permissions.filter((pattern) => !covers(pattern, permission));
      const grants = same.grants.filter((g) => g.effect === deny || !covers(g.permission, permission));
      return { ...same, permissions, grants, clearPermissions: permissions.length === 0, clearGrants: grants.length === 0 };
    }
  }
}
