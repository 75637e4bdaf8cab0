/** How far apart in ms the clocks of two machines may be. The end of a token has no leeway. */
export const clockSkew = 120_000;

/** The most in ms that access tokens can be set to live. */
export const maxTokenTTL = 24 * 3_600_000;

const latestTime = 253402300799; // the end of the year 9999 in seconds since 1970

/** The parts of a token in the compact form of RFC 7515 §3.1. Nothing of it is verified. */
export interface Token {
  readonly header: Record<string, unknown>;
  readonly payload: Record<string, unknown>;
}

/**
 * Takes an access token apart: canonical base64url, and JSON objects. Undefined for
 * anything else.
 */
export function cut(token: string): Token | undefined {
  const [header, payload, signature, ...more] = token.split(".");
  if (token.length > 8192 || signature === undefined || more.length > 0 || !decode(signature)) {
    return undefined;
  }
  const parts = { header: object(header), payload: object(payload) };
  return parts.header && parts.payload ? { header: parts.header, payload: parts.payload } : undefined;
}

function object(segment: string | undefined): Record<string, unknown> | undefined {
  const raw = decode(segment ?? "");
  if (!raw) {
    return undefined;
  }
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** Decodes base64url without padding, and only the one spelling that the bytes have. */
function decode(segment: string): Uint8Array | undefined {
  if (!/^[\w-]+$/.test(segment)) {
    return undefined;
  }
  try {
    const binary = atob(segment.replace(/-/g, "+").replace(/_/g, "/"));
    const again = btoa(binary).replace(/=+$/, "").replace(/\+/g, "-").replace(/\//g, "_");
    return again === segment ? Uint8Array.from(binary, (c) => c.charCodeAt(0)) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Returns when a token was issued and when it ends, in ms since 1970: it must end after
 * it begins, and begin, as well as nbf when it is there, at most clockSkew after now.
 * Whether it has ended is not looked at.
 */
export function periodOf(payload: Record<string, unknown>, now: number): { issued: number; expires: number } | undefined {
  const issued = time(payload["iat"]);
  const expires = time(payload["exp"]);
  const earliest = payload["nbf"] === undefined ? 0 : time(payload["nbf"]);
  const latest = now + clockSkew;
  if (issued === undefined || expires === undefined || earliest === undefined) {
    return undefined;
  }
  return issued > latest || earliest > latest || expires <= issued ? undefined : { issued, expires };
}

/** Reads a NumericDate in whole seconds (RFC 7519 §2); undefined for anything else. */
export function time(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value <= latestTime ? value * 1000 : undefined;
}
