import type { JsonObject } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Problem } from "@/lib/api/problem";

/** The call that is tried, as the address has it. */
export interface Question {
  user: string;
  permission: string;
  resource: string;
  ip: string;
  context: string;
  attributes: string;
}

export const fields = ["user", "permission", "resource", "ip", "context", "attributes"] as const satisfies readonly (keyof Question)[];

export function fromQuery(query: URLSearchParams): Question {
  const get = (name: string) => query.get(name) ?? "";
  return { user: get("user"), permission: get("permission"), resource: get("resource"), ip: get("ip"), context: get("context"), attributes: get("attributes") };
}

/** The request for Explain; wrong JSON is an error of its field, as the server's are. */
export function toRequest(q: Question) {
  return {
    credential: { case: "userId" as const, value: q.user },
    permission: q.permission,
    resource: q.resource,
    client: { ip: q.ip },
    context: context(q.context),
    resourceAttributes: object("resourceAttributes", q.attributes),
  };
}

/** Lines of "name = value". */
function context(text: string): Record<string, string> {
  const entries: Record<string, string> = {};
  for (const line of text.split("\n")) {
    if (!line.trim()) continue;
    const at = line.indexOf("=");
    if (at < 1) throw wrong("context", `must be lines of "name = value", which "${line.trim()}" is not`);
    entries[line.slice(0, at).trim()] = line.slice(at + 1).trim();
  }
  return entries;
}

function object(field: string, text: string): JsonObject | undefined {
  if (!text.trim()) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw wrong(field, `must be JSON: ${cause instanceof Error ? cause.message : ""}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw wrong(field, 'must be an object: {"department": "sales"}');
  return value as JsonObject;
}

const wrong = (field: string, message: string) =>
  new Problem(`${field}: ${message}`, Code.InvalidArgument, "INVALID_FIELD", "", new Map([[field, message]]));
