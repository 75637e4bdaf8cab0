import { create, type JsonObject } from "@bufbuild/protobuf";
import { kindOf } from "./credential.js";
import { incomplete, invalid } from "./errors.js";
import { ActorSchema, Outcome, type RecordEventRequest, RecordEventRequestSchema } from "./gen/tollgate/v1/audit_pb.js";
import { UserKind, type Principal as WirePrincipal } from "./gen/tollgate/v1/auth_pb.js";
import type { LimitStatus as WireStatus } from "./gen/tollgate/v1/limits_pb.js";
import { Reason as WireReason } from "./gen/tollgate/v1/reason_pb.js";
import {
  AuthorizeRequestSchema,
  type AuthorizeResponse,
  Effect,
  type ExplainResponse,
  Verdict,
  type AuthorizeRequest as WireRequest,
} from "./gen/tollgate/v1/roles_pb.js";
import { clip, ipText, wellFormed } from "./text.js";
import { dateOf, milliseconds } from "./times.js";
import type { AuditEvent, AuthorizeRequest, Decision, Explanation, LimitStatus, Principal, Reason } from "./types.js";

export function reasonOf(reason: WireReason): Reason {
  const name: string | undefined = WireReason[reason];
  return name ?? `UNKNOWN_${reason}`;
}

export function principalOf(p: WirePrincipal | undefined): Principal | undefined {
  return (
    p && {
      userId: p.userId,
      username: p.username,
      service: p.kind === UserKind.SERVICE,
      roles: p.roles,
      sessionId: p.sessionId,
      apiKeyId: p.apiKeyId,
      scopes: p.scopes,
      expiresAt: p.expiresAt && dateOf(p.expiresAt),
      audience: p.audience,
      amr: p.amr,
      authTime: p.authTime && dateOf(p.authTime),
    }
  );
}

export const statusOf = (s: WireStatus): LimitStatus => ({
  name: s.name,
  limit: Number(s.limit),
  remaining: Number(s.remaining),
  resetMs: s.reset ? milliseconds(s.reset) : 0,
  exceeded: s.exceeded,
  shadow: s.shadow,
});

export function costOf(cost: number | undefined): bigint {
  if (cost !== undefined && (!Number.isSafeInteger(cost) || cost < 0)) {
    throw invalid("cost", "must be a whole number that is not negative");
  }
  return BigInt(cost ?? 0);
}

/** A request for the wire. */
export interface Prepared {
  readonly message: WireRequest;
  /** False: the credential is malformed and was left out, so that the call still counts for its IP address. */
  readonly wellFormed: boolean;
}

export function requestOf(r: AuthorizeRequest, idempotencyKey: string): Prepared {
  if (r.credential && r.userId) {
    throw invalid("userId", "cannot be combined with credential; give one of them");
  }
  const message = create(AuthorizeRequestSchema, {
    permission: r.permission ?? "",
    anyOf: [...(r.anyOf ?? [])],
    allOf: [...(r.allOf ?? [])],
    authenticated: r.authenticated ?? false,
    // No user has a longer id.
    self: r.self && r.self.length <= 64 ? wellFormed(r.self) : "",
    selfOnly: r.selfOnly ?? false,
    resource: clip(r.resource ?? "", 256),
    context: { ...r.context },
    client: {
      ip: ipText(r.ip ?? ""),
      userAgent: clip(r.userAgent ?? "", 512),
      requestId: clip(r.requestId ?? "", 128),
    },
    cost: costOf(r.cost),
    recheck: r.recheck ?? false,
    minRevision: r.minRevision ?? 0n,
    idempotencyKey,
  });
  const resource = objectOf("resourceAttributes", r.resourceAttributes);
  const action = objectOf("actionProperties", r.actionProperties);
  if (resource) {
    message.resourceAttributes = resource;
  }
  if (action) {
    message.actionProperties = action;
  }
  let wellFormedCredential = true;
  if (r.userId) {
    message.credential = { case: "userId", value: r.userId };
  } else if (r.credential) {
    const kind = kindOf(r.credential);
    wellFormedCredential = kind !== undefined;
    if (kind) {
      message.credential = { case: kind, value: r.credential };
    }
  }
  return { message, wellFormed: wellFormedCredential };
}

/** Attributes for the wire: what JSON.stringify would say of them; undefined for none. */
function objectOf(field: string, attributes: object | undefined): JsonObject | undefined {
  if (!attributes || Object.keys(attributes).length === 0) {
    return undefined;
  }
  try {
    return JSON.parse(JSON.stringify(attributes)) as JsonObject;
  } catch {
    throw invalid(field, "must be what JSON can say");
  }
}

export function decisionOf(res: AuthorizeResponse, wellFormedCredential = true): Decision {
  const principal = principalOf(res.principal);
  let reason = reasonOf(res.reason);
  if (!wellFormedCredential && reason === "CREDENTIAL_MISSING") {
    reason = "CREDENTIAL_INVALID";
  }
  const allowed = res.allowed && wellFormedCredential;
  if (allowed && !principal) {
    throw incomplete("the principal");
  }
  return {
    allowed,
    reason,
    principal,
    retryAfterMs: res.retryAfter && milliseconds(res.retryAfter),
    limits: res.limits.map(statusOf),
    revision: res.revision,
    grant: res.grant,
  };
}

export const explanationOf = (res: ExplainResponse): Explanation => ({
  allowed: res.allowed,
  reason: reasonOf(res.reason),
  principal: principalOf(res.principal),
  grants: res.grants.map((g) => ({
    role: g.role,
    from: g.from,
    permission: g.permission,
    condition: g.condition,
    effect: Effect[g.effect] ?? "",
    verdict: Verdict[g.verdict] ?? "",
    detail: g.detail,
    read: { ...g.read },
  })),
  truncated: res.truncated,
  limits: res.limits.map(statusOf),
  revision: res.revision,
});

export function eventOf(e: AuditEvent): RecordEventRequest {
  const { userId = "", username = "", sessionId = "", apiKeyId = "" } = e.actor ?? {};
  const message = create(RecordEventRequestSchema, {
    action: e.action,
    outcome: Outcome[e.outcome] ?? Outcome.UNSPECIFIED,
    reason: e.reason ?? "",
    resource: e.resource ?? "",
    ip: ipText(e.ip ?? ""),
    userAgent: clip(e.userAgent ?? "", 512),
    requestId: clip(e.requestId ?? "", 128),
    details: { ...e.details },
  });
  if (e.actor) {
    message.actor = create(ActorSchema, { userId, username, sessionId, apiKeyId });
  }
  return message;
}
