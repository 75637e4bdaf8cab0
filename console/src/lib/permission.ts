/**
 * Whether a pattern covers a permission: a trailing "*" stands for one or more segments,
 * and "*" alone does not reach Tollgate's own permissions where the server says so; this
 * is for showing and hiding only.
 */
export function covers(pattern: string, permission: string): boolean {
  if (pattern === "*") return true;
  if (!pattern.endsWith(":*")) return pattern === permission;
  return permission.startsWith(pattern.slice(0, -1));
}
