// What the SDK makes of the cases in sdk/testdata/audit.json, in their own form.

import { type AuditCheckpoint, NotProvenError, parseAuditLogKeys, verifyConsistency } from "@tollgate/sdk/audit";

/** See sdk/testdata/README.md. */
export interface AuditCase {
  name: string;
  keys: string[];
  onlyKeys?: boolean;
  proof?: string;
  proofBase64?: string;
  checkpoint?: string;
  earlier?: string;
  later?: string;
  hashes?: string[];
  want: unknown;
}

export const repeated = (text: string): string =>
  text.replace(/\$\{repeat (.*?) (\d+)\}/gs, (_, unit: string, n: string) => unit.repeat(Number(n)));

const bytes = (text: string) => new TextEncoder().encode(repeated(text));
const decode = (base64: string) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const plain = ({ origin, size, root }: AuditCheckpoint) => ({ origin, size: String(size), root: btoa(String.fromCharCode(...root)) });

/** Returns what is proven, and null for what is refused. */
export async function verdict(c: AuditCase): Promise<unknown> {
  try {
    const keys = await parseAuditLogKeys(...c.keys);
    if (c.onlyKeys) {
      return true;
    }
    if (c.checkpoint !== undefined) {
      return plain(await keys.verifyCheckpoint(bytes(c.checkpoint)));
    }
    if (c.earlier !== undefined && c.later !== undefined) {
      const [earlier, later] = [await keys.verifyCheckpoint(bytes(c.earlier)), await keys.verifyCheckpoint(bytes(c.later))];
      await verifyConsistency(earlier, later, (c.hashes ?? []).map(decode));
      return true;
    }
    const event = await keys.verifyProof(c.proofBase64 === undefined ? bytes(c.proof ?? "") : decode(c.proofBase64));
    return { ...event, index: String(event.index), checkpoint: plain(event.checkpoint) };
  } catch (e) {
    if (e instanceof NotProvenError || String(e).includes("is not a log's key")) {
      return null;
    }
    throw e;
  }
}
