import { fail } from "./error.js";
import { type Key, openNote } from "./note.js";
import { decodeHash, textOf } from "./text.js";

/** What a log had when it signed. */
export interface AuditCheckpoint {
  /** The log's name. */
  readonly origin: string;
  /** How many events. */
  readonly size: bigint;
  /** The root of their tree, 32 bytes. */
  readonly root: Uint8Array;
}

const maxCheckpoint = 64 << 10; // bytes
const maxSize = 1n << 62n;

const form = /^([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/=]+)\n$/;

/** Reads a checkpoint (https://c2sp.org/tlog-checkpoint), and checks its log's signature. */
export async function openCheckpoint(signed: Uint8Array, keys: readonly Key[]): Promise<AuditCheckpoint> {
  const { text, names } = await openNote(textOf(signed, maxCheckpoint), keys);
  const [, origin = "", digits = "", encoded = ""] = form.exec(text) ?? [];
  const root = decodeHash(encoded);
  if (!root || BigInt(digits) > maxSize) {
    fail("not a checkpoint (https://c2sp.org/tlog-checkpoint)");
  }
  if (!names.has(origin)) {
    fail("the checkpoint is not signed by a key of its log");
  }
  return { origin, size: BigInt(digits), root };
}
