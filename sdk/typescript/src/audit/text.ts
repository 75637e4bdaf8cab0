import { fail } from "./error.js";

export type Bytes = Uint8Array<ArrayBuffer>;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** Reads UTF-8 of at most so many bytes. */
export function textOf(bytes: Uint8Array, most: number): string {
  if (bytes.length > most) {
    fail(`more than ${most} bytes`);
  }
  try {
    return decoder.decode(bytes);
  } catch {
    fail("not UTF-8");
  }
}

export const bytesOf = (text: string): Bytes => encoder.encode(text);

/** Halves of surrogate pairs, which UTF-8 does not have. */
export const surrogate = /\p{Surrogate}/u;

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$/;

/**
 * Reads base64 in the one spelling that bytes have: with its padding, and the bits that are
 * left over are 0 (RFC 4648 §3.5, §4). Undefined for anything else.
 */
export function decodeBase64(text: string): Bytes | undefined {
  return base64.test(text) ? Uint8Array.from(atob(text), (c) => c.charCodeAt(0)) : undefined;
}

/** Reads a hash in base64; undefined for anything else. */
export function decodeHash(text: string): Bytes | undefined {
  const hash = decodeBase64(text);
  return hash?.length === 32 ? hash : undefined;
}
