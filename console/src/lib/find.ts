import { all } from "./all";
import { auth, roles } from "./api/clients";
import { problem } from "./api/problem";

/** What a Combobox offers. */
export interface Option {
  value: string;
  text: string;
  about?: string;
}

/** Users whose names start with what was typed; value is the id. */
export async function findUsers(typed: string, signal: AbortSignal): Promise<Option[]> {
  try {
    const { users } = await auth.listUsers({ usernamePrefix: typed.trim().toLowerCase(), pageSize: 10 }, { signal });
    return users.map(({ id, username, displayName }) => ({ value: id, text: username, about: displayName }));
  } catch (cause) {
    if (problem(cause).violations.has("usernamePrefix")) return []; // no name starts so
    throw cause;
  }
}

/** Roles with what was typed in their names or descriptions. */
export async function findRoles(typed: string, signal: AbortSignal): Promise<Option[]> {
  const { items } = await all(async (pageToken) => {
    const answer = await roles.listRoles({ pageSize: 250, pageToken }, { signal });
    return { items: answer.roles, next: answer.nextPageToken };
  });
  const want = typed.trim().toLowerCase();
  return items
    .filter(({ name, description }) => name.includes(want) || description.toLowerCase().includes(want))
    .slice(0, 20)
    .map(({ name, description }) => ({ value: name, text: name, about: description }));
}
