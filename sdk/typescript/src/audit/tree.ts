import type { Bytes } from "./text.js";

/** Returns the SHA-256 of parts that follow each other. */
export async function sha256(...parts: readonly Uint8Array[]): Promise<Bytes> {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

/** Hashes a leaf (RFC 6962 §2.1). */
export const leafHash = (leaf: Uint8Array): Promise<Bytes> => sha256(Uint8Array.of(0), leaf);

const nodeHash = (left: Uint8Array, right: Uint8Array): Promise<Bytes> => sha256(Uint8Array.of(1), left, right);

export const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Says whether a tree with this root has the leaf at an index below its size (RFC 9162 §2.1.3.2). */
export async function includes(root: Uint8Array, size: bigint, index: bigint, leaf: Uint8Array, path: readonly Uint8Array[]) {
  let [node, last, hash] = [index, size - 1n, leaf];
  for (const sibling of path) {
    if (last === 0n) {
      return false;
    }
    if (node % 2n === 1n || node === last) {
      hash = await nodeHash(sibling, hash);
      for (; node !== 0n && node % 2n === 0n; node >>= 1n) {
        last >>= 1n;
      }
    } else {
      hash = await nodeHash(hash, sibling);
    }
    node >>= 1n;
    last >>= 1n;
  }
  return last === 0n && same(hash, root);
}

interface Tree {
  readonly size: bigint;
  readonly root: Uint8Array;
}

/** Says whether the later tree begins with the earlier one, of at least a leaf and at most as many (RFC 9162 §2.1.4.2). */
export async function continues(earlier: Tree, later: Tree, proof: readonly Uint8Array[]) {
  if (earlier.size === later.size) {
    return proof.length === 0 && same(earlier.root, later.root);
  }
  const whole = (earlier.size & (earlier.size - 1n)) === 0n; // a power of two: its root is a node of the later tree
  const [first, ...rest] = whole ? [earlier.root, ...proof] : proof;
  if (!first) {
    return false;
  }
  let [node, last] = [earlier.size - 1n, later.size - 1n];
  for (; node % 2n === 1n; node >>= 1n) {
    last >>= 1n;
  }
  let [before, after] = [first, first];
  for (const hash of rest) {
    if (last === 0n) {
      return false;
    }
    if (node % 2n === 1n || node === last) {
      before = await nodeHash(hash, before);
      after = await nodeHash(hash, after);
      for (; node !== 0n && node % 2n === 0n; node >>= 1n) {
        last >>= 1n;
      }
    } else {
      after = await nodeHash(after, hash);
    }
    node >>= 1n;
    last >>= 1n;
  }
  return last === 0n && same(before, earlier.root) && same(after, later.root);
}
