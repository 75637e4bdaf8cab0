import { fail } from "./error.js";
import { bytesOf, decodeBase64 } from "./text.js";
import { sha256 } from "./tree.js";

/** A key that signs notes (https://c2sp.org/signed-note), by Ed25519. */
export interface Key {
  readonly name: string;
  readonly hash: string;
  readonly public: CryptoKey;
}

const ed25519 = 1; // the algorithm's number
const signatureSize = 4 + 64; // with the key's hash
const maxSignatures = 100;

const keyForm = /^([^\p{White_Space}\p{Surrogate}+]+)\+([0-9A-Fa-f]{8})\+([A-Za-z0-9+/]{44})$/u;
const lineForm = /^— ([^\p{White_Space}\p{Surrogate}+]+) ([A-Za-z0-9+/=]+)$/u;

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Reads a key in the form NAME+HASH+KEY. */
export async function parseKey(text: string): Promise<Key> {
  const [, name = "", hash = "", encoded = ""] = keyForm.exec(text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "")) ?? [];
  const key = decodeBase64(encoded);
  if (!key || key[0] !== ed25519 || hex((await sha256(bytesOf(`${name}\n`), key)).subarray(0, 4)) !== hash.toLowerCase()) {
    throw new Error(`${JSON.stringify(text)} is not a log's key, NAME+HASH+KEY as GET /v1/audit/keys gives it`);
  }
  return { name, hash: hash.toLowerCase(), public: await crypto.subtle.importKey("raw", key.subarray(1), "Ed25519", false, ["verify"]) };
}

/**
 * Returns what is signed, and the names of those whose keys are known and who signed it.
 * Of each key its first signature counts, which has to be good; those of others are no
 * obstacle.
 */
export async function openNote(signed: string, keys: readonly Key[]): Promise<{ text: string; names: Set<string> }> {
  const end = signed.lastIndexOf("\n\n");
  const text = signed.slice(0, end + 1);
  const lines = signed.slice(end + 2).split("\n");
  const control = Array.from(signed).some((c) => c < " " && c !== "\n");
  if (end < 0 || control || lines.pop() !== "" || lines.length > maxSignatures) {
    fail("not a signed note (https://c2sp.org/signed-note)");
  }
  const seen = new Set<Key>();
  const names = new Set<string>();
  for (const line of lines) {
    const [, name = "", encoded = ""] = lineForm.exec(line) ?? [];
    const raw = decodeBase64(encoded);
    if (!raw || raw.length < 5) {
      fail("a line is not a signature");
    }
    const known = keys.filter((key) => key.name === name && key.hash === hex(raw.subarray(0, 4)));
    const [key] = known;
    if (!key || seen.has(key)) {
      continue;
    }
    if (known.length > 1) {
      fail(`two keys are ${name}+${key.hash}`);
    }
    seen.add(key);
    if (raw.length !== signatureSize || !(await crypto.subtle.verify("Ed25519", key.public, raw.subarray(4), bytesOf(text)))) {
      fail(`the signature of ${name} is not good`);
    }
    names.add(name);
  }
  return { text, names };
}
