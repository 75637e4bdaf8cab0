import { fail } from "./error.js";
import { decodeBase64, surrogate, textOf } from "./text.js";

const maxLeaf = 32 << 10; // bytes
const header = "tollgate-audit-v1\n";

// As a leaf has them beside actor and details; all are texts, and there are no others.
const members = ["action", "id", "ip", "outcome", "reason", "recordedBy", "requestId", "resource", "salt", "time", "userAgent"] as const;
const actorMembers = ["apiKeyId", "sessionId", "userId", "username"] as const;

/** An event as the tree has it. */
export interface Leaf extends Record<(typeof members)[number], string> {
  readonly actor: Record<(typeof actorMembers)[number], string>;
  readonly details: Readonly<Record<string, string>>;
}

/** Reads a leaf. Only bytes that are as the log writes them are one: canonical JSON (RFC 8785), every member present. */
export function parseLeaf(bytes: Uint8Array): Leaf {
  const text = textOf(bytes, maxLeaf);
  if (!text.startsWith(header)) {
    fail("not an event of an audit log");
  }
  const value = parse(text.slice(header.length));
  if (!isObject(value)) {
    fail("the event is not an object");
  }
  const { actor, details, ...rest } = value;
  if (!hasTexts(rest, members) || !hasTexts(actor, actorMembers) || !hasTexts(details)) {
    fail("the event does not have the members of an event");
  }
  const leaf: Leaf = { ...rest, actor, details };
  if (header + canonical({ ...rest, actor: canonical(actor), details: canonical(details) }, ["actor", "details"]) !== text) {
    fail("the event is not in canonical form (RFC 8785)");
  }
  if (!isTime(leaf.time) || !decodeBase64(leaf.salt)) {
    fail("the event has no time or salt");
  }
  return leaf;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    fail("the event is not in JSON");
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

/** Says whether a value is an object of texts in UTF-8, with exactly these names if any are given. */
function hasTexts<Name extends string>(value: unknown, names?: readonly Name[]): value is Record<Name, string> {
  return (
    isObject(value) &&
    Object.entries(value).every(([name, text]) => typeof text === "string" && !surrogate.test(name + text)) &&
    (!names || Object.keys(value).sort().join() === names.join())
  );
}

/** Writes an object of texts (RFC 8785); those that are named are JSON already. */
function canonical(value: Record<string, string>, written: readonly string[] = []): string {
  const all = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)); // by UTF-16
  return `{${all.map(([name, text]) => `${JSON.stringify(name)}:${written.includes(name) ? text : JSON.stringify(text)}`).join()}}`;
}

/** Says whether it is a time in UTC, to the microsecond, of a day that there is. */
function isTime(text: string): boolean {
  const seconds = text.slice(0, 19);
  const at = new Date(`${seconds}Z`);
  return (
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(text) &&
    !text.startsWith("0000") &&
    !Number.isNaN(at.getTime()) &&
    at.toISOString().startsWith(seconds)
  );
}
