// The cases that all SDKs pass: sdk/testdata explains them.

import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { fromJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuthorizeResponseSchema } from "../src/gen/tollgate/v1/roles_pb.js";
import type { Decision, LimitStatus, Principal, TollgateOptions } from "../src/index.js";
import { Tollgate, TollgateError, UnavailableError } from "../src/index.js";
import { Roles } from "./fake.js";
import { frameworks } from "./frameworks.js";
import { inTime } from "./harness.js";
import { type Entry, fill, type Members, scripted, unlike, type Value } from "./script.js";
import { Admin, type Server, start } from "./server.js";

interface Step {
  call?: string;
  args?: Members;
  as?: string;
  method?: string;
  path?: string;
  body?: Value;
  save?: Record<string, string>;
  until?: boolean;
  want?: Value;
  error?: Value;
  requests?: number;
}

interface Case {
  name: string;
  server?: string;
  setup?: Step[];
  client?: {
    url?: string;
    apiKey?: string;
    timeoutMs?: number;
    retries?: number;
    onUnavailable?: "allow" | "deny";
    unreachable?: boolean;
    script?: Entry[];
  };
  refused?: boolean;
  steps?: Step[];
}

const testdata = (file: string) => JSON.parse(readFileSync(new URL(`../../testdata/${file}`, import.meta.url), "utf8"));
const file: { servers: Record<string, Record<string, string>>; setup: Step[]; cases: Case[] } = testdata("cases.json");

const servers: Record<string, Server> = {};
const shared: Members = {};

beforeAll(async () => {
  const server = await start();
  servers[""] = server;
  Object.assign(shared, { admin: server.token, url: server.url });
  for (const step of file.setup) await rest(server, step, shared);
  for (const [name, variables] of Object.entries(file.servers)) servers[name] = await start(variables);
}, 60_000);
afterAll(() => Promise.all(Object.values(servers).map((s) => s.stop())));

test.each(file.cases.map((c) => [c.name, c] as const))("%s", async (_, c) => {
  const saved = { ...shared };
  const server = servers[c.server ?? ""] as Server;
  for (const step of c.setup ?? []) await rest(server, step, saved);
  const { script, unreachable, url, apiKey, ...options } = c.client ?? {};
  const proxy = script && (await scripted(server.url, script, saved));
  const client: TollgateOptions = {
    ...options,
    url: url ?? proxy?.url ?? (unreachable ? "http://127.0.0.1:1" : server.url),
    apiKey: String(apiKey === undefined ? saved["service"] : fill(apiKey, saved)),
  };
  if (c.refused) {
    expect(() => new Tollgate(client)).toThrow(TypeError);
    expect(() => new Tollgate(client)).not.toThrow(/hunter2/);
    return;
  }
  const gate = new Tollgate(client);
  for (const [i, step] of (c.steps ?? []).entries()) {
    if (step.path) {
      await rest(server, step, saved);
      continue;
    }
    const before = proxy?.requests() ?? 0;
    const once = () => attempt(gate, step, saved);
    expect(await (step.until ? inTime(once) : once()), `step ${i + 1}`).toBe("");
    if (step.requests !== undefined) {
      expect((proxy?.requests() ?? 0) - before, `requests of step ${i + 1}`).toBe(step.requests);
    }
  }
  await proxy?.close();
});

/** Makes a call of the REST API, as the administrator unless it says otherwise. */
async function rest(server: Admin, step: Step, saved: Members): Promise<void> {
  const caller = new Admin(server.url, String(step.as === undefined ? saved["admin"] : fill(step.as, saved)));
  const body = step.body === undefined ? undefined : fill(step.body, saved);
  const answer: Value = await caller.call(step.method ?? "", String(fill(step.path ?? "", saved)), body);
  for (const [name, from] of Object.entries(step.save ?? {})) {
    const value = from.split(".").reduce<Value | undefined>((v, member) => (v as Members | undefined)?.[member], answer);
    if (value === undefined) throw new Error(`${step.path}: no ${from}`);
    saved[name] = value;
  }
  if (step.want !== undefined) {
    expect(unlike("body", fill(step.want, saved), answer)).toBe("");
  }
}

/** Makes a call of the SDK, and says in what its result is not the one wanted. */
async function attempt(gate: Tollgate, step: Step, saved: Members): Promise<string> {
  const args = fill(step.args ?? {}, saved) as Members;
  const as = step.as === undefined ? undefined : String(fill(step.as, saved));
  let got: Value;
  try {
    got = await call(gate, step.call ?? "", args, as);
  } catch (e) {
    noSecretIn(e, saved);
    if (step.error === undefined) throw e;
    return unlike("error", fill(step.error, saved), errorOf(e));
  }
  if (step.error !== undefined) return `no error, but ${JSON.stringify(got)}`;
  return step.want === undefined ? "" : unlike("result", fill(step.want, saved), got);
}

/** Makes a call by name, and returns its result in the names of the cases. */
// biome-ignore lint/suspicious/noExplicitAny: what a case says is what a caller could
async function call(gate: Tollgate, name: string, args: any, as: string | undefined): Promise<Value> {
  const { onUnavailable, ...request } = args;
  if (request.minRevision !== undefined) request.minRevision = BigInt(request.minRevision);
  if (request.cost !== undefined) request.cost = Number(request.cost);
  const bound = as === undefined ? undefined : gate.as(as);
  switch (name) {
    case "authorize": {
      const d: Decision = await (bound ? bound.authorize(request, { onUnavailable }) : gate.authorize(request, { onUnavailable }));
      const { allowed, reason, grant } = d;
      return { allowed, reason, grant, ...common(d), retryAfter: (d.retryAfterMs ?? 0) / 1000 };
    }
    case "verify": {
      const v = await (bound ? bound.verify() : gate.verify(request.credential));
      return { active: v.active, reason: v.reason, principal: person(v.principal), revision: Number(v.revision) };
    }
    case "checkLimit": {
      const { limit, key, ...options } = request;
      const res = await gate.checkLimit(limit, key, options);
      return { allowed: res.allowed, status: status(res.status), retryAfter: (res.retryAfterMs ?? 0) / 1000 };
    }
    case "recordEvent":
      await gate.recordEvent(request);
      return {};
    case "recordEvents":
      await gate.recordEvents(request.events);
      return {};
    case "explain": {
      const e = await (bound ? bound.explain(request) : gate.explain(request));
      return {
        allowed: e.allowed,
        reason: e.reason,
        truncated: e.truncated,
        ...common(e),
        grants: e.grants.map((g) => ({ ...g, read: { ...g.read } })),
      };
    }
    default:
      throw new Error(`there is no call ${name}`);
  }
}

const common = (d: { principal: Principal | undefined; limits: readonly LimitStatus[]; revision: bigint }) => ({
  principal: person(d.principal),
  limits: d.limits.map(status),
  revision: Number(d.revision),
});

const person = (p: Principal | undefined): Value =>
  p
    ? {
        ...p,
        roles: [...p.roles],
        scopes: [...p.scopes],
        amr: [...p.amr],
        expiresAt: p.expiresAt?.toISOString() ?? "",
        authTime: p.authTime?.toISOString() ?? "",
      }
    : null;

const status = ({ resetMs, ...s }: LimitStatus): Value => ({ ...s, reset: resetMs / 1000 });

/** No answer in time is unavailable. */
function errorOf(e: unknown): Value {
  if (!(e instanceof TollgateError)) throw e;
  return { code: e instanceof UnavailableError ? "unavailable" : e.code, reason: e.reason, field: e.violations[0]?.field ?? "" };
}

function noSecretIn(e: unknown, saved: Members): void {
  const text = inspect(e, { depth: 10 });
  expect(text).not.toContain("hunter2");
  for (const value of Object.values(saved)) {
    if (typeof value === "string" && /^(tg_|eyJ)/.test(value)) expect(text.includes(value)).toBe(false);
  }
}

interface Refusal {
  decision: Members | null;
  anyOf?: string[];
  status: number;
  header: Record<string, string>;
  body: Value;
}

describe.each(Object.entries(frameworks))("%s answers as every SDK does", (_, serve) => {
  const refusals: Refusal[] = testdata("refusals.json");
  test.each(refusals.map((r) => [String(r.decision?.["reason"] ?? "no decision"), r] as const))(
    "%s",
    async (_, { decision, anyOf, status, header, body }) => {
      const roles = new Roles(() => {
        if (!decision) throw new Error("nobody decides");
        return fromJson(AuthorizeResponseSchema, decision);
      });
      const gate = roles.gate({ retries: 0 });
      const service = await serve({ gate, describe: () => (anyOf ? { anyOf, permission: undefined } : {}) });
      const res = await fetch(`${service.url}/orders/42`, { headers: { Authorization: "Bearer a.b.c" } });
      expect([res.status, await res.json()]).toEqual([status, body]);
      for (const name of ["WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy"]) {
        const want = Object.entries(header).find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1] ?? null;
        expect(res.headers.get(name)).toBe(want);
      }
      await service.close();
    },
  );
});
