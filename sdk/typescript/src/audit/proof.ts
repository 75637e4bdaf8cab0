import { type AuditCheckpoint, openCheckpoint } from "./checkpoint.js";
import { fail } from "./error.js";
import { parseLeaf } from "./leaf.js";
import { type Key, parseKey } from "./note.js";
import { bytesOf, decodeBase64, decodeHash, textOf } from "./text.js";
import { continues, includes, leafHash } from "./tree.js";

/** An event that a log has. */
export interface ProvenEvent {
  /** Its place in the log, from 0 on. */
  readonly index: bigint;
  /** That proves it. */
  readonly checkpoint: AuditCheckpoint;
  readonly id: string;
  /** RFC 3339 in UTC, to the microsecond: "2026-03-01T12:00:00.000001Z". */
  readonly time: string;
  readonly userId: string;
  readonly username: string;
  readonly sessionId: string;
  readonly apiKeyId: string;
  readonly action: string;
  /** "success", "denied" or "failure". */
  readonly outcome: string;
  readonly reason: string;
  readonly resource: string;
  readonly ip: string;
  readonly userAgent: string;
  readonly requestId: string;
  readonly details: Readonly<Record<string, string>>;
  /** The user id of the service that reported it. */
  readonly recordedBy: string;
}

const maxProof = 128 << 10; // bytes
const header = "c2sp.org/tlog-proof@v1\n";

interface Proof {
  readonly leaf: Uint8Array;
  readonly index: bigint;
  readonly path: readonly Uint8Array[];
  readonly checkpoint: string;
}

function parseProof(file: Uint8Array): Proof {
  const text = textOf(file, maxProof);
  const end = text.indexOf("\n\n");
  if (!text.startsWith(header) || end < 0) {
    fail("not a proof (https://c2sp.org/tlog-proof)");
  }
  const [extra = "", second = "", ...hashes] = text.slice(header.length, end).split("\n");
  const leaf = extra.startsWith("extra ") ? decodeBase64(extra.slice(6)) : undefined;
  const digits = /^index (0|[1-9][0-9]{0,18})$/.exec(second)?.[1];
  if (!leaf || digits === undefined) {
    fail("the proof does not have an event and its index");
  }
  const path = hashes.map((line) => decodeHash(line) ?? fail("a line is not a hash in base64"));
  return { leaf, index: BigInt(digits), path, checkpoint: text.slice(end + 2) };
}

/**
 * The public keys of an audit log, from {@link parseAuditLogKeys}. It asks nobody: all that
 * is proven comes from what it is given.
 */
export class AuditLogKeys {
  readonly #keys: readonly Key[];

  /** @internal */
  constructor(keys: readonly Key[] = []) {
    this.#keys = keys;
  }

  /**
   * Checks a proof, the content of a .tlog-proof file (https://c2sp.org/tlog-proof) as GET
   * /v1/audit/tlog/proof/{event_id} gives it, and returns the event that it proves.
   *
   * @throws NotProvenError: nothing is proven.
   */
  async verifyProof(proof: Uint8Array): Promise<ProvenEvent> {
    const { leaf, index, path, checkpoint: signed } = parseProof(proof);
    const checkpoint = await openCheckpoint(bytesOf(signed), this.#keys);
    const { size, root } = checkpoint;
    if (index >= size || !(await includes(root, size, index, await leafHash(leaf), path))) {
      fail(`the log does not have this event at ${index}`);
    }
    const { actor, salt: _, ...event } = parseLeaf(leaf);
    return { index, checkpoint, ...actor, ...event };
  }

  /**
   * Checks the signature of a checkpoint (https://c2sp.org/tlog-checkpoint).
   *
   * @throws NotProvenError: it is not one that the log signed.
   */
  verifyCheckpoint(signed: Uint8Array): Promise<AuditCheckpoint> {
    return openCheckpoint(signed, this.#keys);
  }
}

/**
 * Reads the public keys of an audit log in the form NAME+HASH+KEY
 * (https://c2sp.org/signed-note), from GET /v1/audit/keys or, better, from a place that
 * whoever runs the server cannot change.
 *
 * @throws Error: a text is not a key.
 */
export async function parseAuditLogKeys(...keys: string[]): Promise<AuditLogKeys> {
  return new AuditLogKeys(await Promise.all(keys.map(parseKey)));
}

/**
 * Checks that a later checkpoint's log begins with an earlier one's, by the hashes of
 * GET /v1/audit/consistency (RFC 6962 §2.1.2): that nothing was changed between. Both
 * checkpoints are from verifyCheckpoint.
 *
 * @throws NotProvenError: it does not, or that is not proven.
 */
export async function verifyConsistency(earlier: AuditCheckpoint, later: AuditCheckpoint, hashes: readonly Uint8Array[]): Promise<void> {
  if (earlier.origin !== later.origin) {
    fail(`the checkpoints are of two logs, ${earlier.origin} and ${later.origin}`);
  }
  if (earlier.size < 1n || earlier.size > later.size) {
    fail(`a log of ${later.size} events does not begin with one of ${earlier.size}`);
  }
  if (hashes.some((hash) => hash.length !== 32) || !(await continues(earlier, later, hashes))) {
    fail(`the log of ${later.size} events does not begin with the one of ${earlier.size} that was signed before`);
  }
}
