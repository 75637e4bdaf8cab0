import { importJWK, type JWK } from "jose";

/** A public key of a key set. It verifies signatures of one algorithm, the one that the key set gives it (RFC 8725 §3.1). */
export interface Key {
  readonly id: string;
  readonly algorithm: string;
  readonly public: CryptoKey;
  /** The same for two keys that are the same. */
  readonly text: string;
}

/** Bytes above which a key set is not read. */
export const maxKeySet = 256 << 10;

/**
 * Reads a JSON Web Key Set (RFC 7517 §5) by kid. Entries of other kinds than EdDSA, ES256
 * and RS256 are left out. A set with two keys of one kid, or with none left, is an error.
 */
export async function parseKeySet(text: string): Promise<Map<string, Key>> {
  const set: unknown = JSON.parse(text);
  const entries = isObject(set) && Array.isArray(set["keys"]) ? set["keys"] : [];
  const keys = new Map<string, Key>();
  for (const entry of entries) {
    const key = isObject(entry) ? await keyOf(entry) : undefined;
    if (!key) {
      continue;
    }
    if (keys.has(key.id)) {
      throw new Error("the key set has two keys of one kid");
    }
    keys.set(key.id, key);
  }
  if (keys.size === 0) {
    throw new Error("the key set has no key of a known kind");
  }
  return keys;
}

async function keyOf(entry: Record<string, unknown>): Promise<Key | undefined> {
  const { kid, alg, use } = entry;
  const members = publicMembers(entry);
  if (typeof kid !== "string" || kid === "" || (use !== undefined && use !== "" && use !== "sig") || !members) {
    return undefined;
  }
  try {
    const imported = await importJWK(members, String(alg));
    return imported instanceof Uint8Array
      ? undefined
      : { id: kid, algorithm: String(alg), public: imported, text: JSON.stringify([alg, members]) };
  } catch {
    return undefined; // not on the curve
  }
}

/** Returns the members of a public key whose algorithm fits its type; undefined for others. */
function publicMembers(entry: Record<string, unknown>): JWK | undefined {
  const { kty, crv, alg, x, y, n, e } = entry;
  if (kty === "OKP" && crv === "Ed25519" && alg === "EdDSA" && isText(x)) {
    return { kty, crv, x };
  }
  if (kty === "EC" && crv === "P-256" && alg === "ES256" && isText(x) && isText(y)) {
    return { kty, crv, x, y };
  }
  // 2048 bits, which RFC 7518 §3.3 asks for, to 4096.
  if (kty === "RSA" && alg === "RS256" && isText(n) && isText(e) && n.length >= 342 && n.length <= 683 && e.length >= 2 && e.length <= 6) {
    return { kty, n, e };
  }
  return undefined;
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
