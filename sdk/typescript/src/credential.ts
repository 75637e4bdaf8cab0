/** What a credential is by its form; undefined for none. */
export type CredentialKind = "accessToken" | "apiKey" | undefined;

const form = /^[A-Za-z0-9._~+/-]+=*$/;
const longestToken = 8192;
const longestKey = 256;

/**
 * Stands for a credential that is no single token: it is invalid, not missing, and
 * is never sent to Tollgate.
 */
export const malformed = ",";

/**
 * Checks the form only: the alphabet of RFC 6750 §2.1 and the lengths that Tollgate
 * accepts.
 */
export function kindOf(credential: string): CredentialKind {
  const key = credential.startsWith("tg_");
  if (credential.length > (key ? longestKey : longestToken) || !form.test(credential)) {
    return undefined;
  }
  return key ? "apiKey" : "accessToken";
}

/**
 * Returns the credential in the Authorization fields of a request. None, or one of
 * another scheme, is no credential (RFC 6750 §3.1): the answer is empty. Two fields,
 * or Bearer without a token, are a bad one.
 */
export function bearer(fields: readonly string[]): string {
  const [value] = fields;
  if (value === undefined) {
    return "";
  }
  if (fields.length > 1) {
    return malformed;
  }
  const space = value.indexOf(" ");
  const scheme = space < 0 ? value : value.slice(0, space);
  if (scheme.toLowerCase() !== "bearer") {
    return "";
  }
  const credential = space < 0 ? "" : value.slice(space).replace(/^ +| +$/g, "");
  return credential === "" ? malformed : credential;
}
