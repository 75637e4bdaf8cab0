import { periodOf, type Token, time } from "../token.js";
import type { Names } from "./feed.js";
import type { Key } from "./keys.js";

/** The claims of an access token that is good but for its time. */
export interface Claims extends Names {
  /** Whose signature it has. */
  readonly key: Key;
  readonly scopes: readonly string[];
  readonly audience: string;
  readonly amr: readonly string[];
  /** In ms since 1970. */
  readonly authTime: number | undefined;
  readonly expires: number;
  /** The user may do nothing but choose a new password. */
  readonly passwordChange: boolean;
}

/** Returns the kid and the alg of an access token's header (RFC 9068 §2.1), which has no other members, so that no crit, jwk or jku is ever obeyed. */
export function headerOf({ header }: Token): { id: string; algorithm: string } | undefined {
  const { alg, kid, typ } = header;
  const good = Object.keys(header).length === 3 && typ === "at+jwt" && isText(alg) && isText(kid) && kid.length <= 128;
  return good ? { id: kid, algorithm: alg } : undefined;
}

/**
 * Returns the claims of a token whose signature is good; undefined when one is bad. It
 * checks all but the audience and the end, which is at most ttlMs after the beginning.
 */
export function claimsOf({ payload }: Token, key: Key, issuer: string, ttlMs: number, now: number): Claims | undefined {
  const period = periodOf(payload, now);
  const { iss, jti, sub, aud, sid, client_id, api_key_id, scope, amr, auth_time, password_change } = payload;
  if (!period || iss !== issuer || !isText(jti) || !isText(sub) || !isText(aud) || !isText(client_id)) {
    return undefined;
  }
  const byKey = api_key_id !== undefined;
  if (byKey ? !isText(api_key_id) || sid !== undefined : !isText(sid)) {
    return undefined;
  }
  const scopes = scope === undefined ? [] : isText(scope) && byKey ? scope.split(/\s+/).filter(Boolean) : undefined;
  const signedIn = auth_time === undefined ? undefined : time(auth_time);
  const bad =
    scopes === undefined ||
    (scope !== undefined && scopes.length === 0) ||
    (amr !== undefined && !(Array.isArray(amr) && amr.length <= 16 && amr.every(isText))) ||
    (auth_time !== undefined && signedIn === undefined) ||
    (password_change !== undefined && typeof password_change !== "boolean");
  return bad
    ? undefined
    : {
        key,
        tokenId: jti,
        userId: sub,
        sessionId: byKey ? "" : String(sid),
        apiKeyId: byKey ? String(api_key_id) : "",
        scopes,
        audience: aud,
        amr: Array.isArray(amr) ? amr : [],
        authTime: signedIn,
        expires: Math.min(period.expires, period.issued + ttlMs),
        passwordChange: password_change === true,
      };
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
