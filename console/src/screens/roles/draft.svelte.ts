import { Effect, type Role } from "@tollgate/roles_pb.js";

export interface GrantDraft {
  /** For the screen only: grants have no name of their own. */
  key: number;
  permission: string;
  condition: string;
  effect: Effect;
  description: string;
}

let last = 0;

export const newGrant = (): GrantDraft => ({ key: ++last, permission: "", condition: "", effect: Effect.ALLOW, description: "" });

/** A role while it is edited. */
export class Draft {
  name = $state("");
  description = $state("");
  permissions = $state<string[]>([]);
  grants = $state<GrantDraft[]>([]);
  inherits = $state<string[]>([]);

  constructor(role?: Role) {
    if (!role) return;
    this.name = role.name;
    this.description = role.description;
    this.permissions = [...role.permissions];
    this.grants = role.grants.map(({ permission, condition, effect, description }) => ({ ...newGrant(), permission, condition, effect: effect || Effect.ALLOW, description }));
    this.inherits = [...role.inherits];
  }

  /** The request that makes this role. */
  create() {
    return { name: this.name, description: this.description, permissions: this.permissions, grants: this.#grants(), inherits: this.inherits };
  }

  /** The request that makes the role this: all of it, because an empty list has to be said. */
  update() {
    const grants = this.#grants();
    return {
      name: this.name,
      description: this.description,
      permissions: this.permissions,
      clearPermissions: this.permissions.length === 0,
      grants,
      clearGrants: grants.length === 0,
      inherits: this.inherits,
      clearInherits: this.inherits.length === 0,
    };
  }

  #grants() {
    return this.grants.map(({ permission, condition, effect, description }) => ({ permission, condition, effect, description }));
  }
}
