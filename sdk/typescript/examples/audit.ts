import { readFile } from "node:fs/promises";
import { NotProvenError, parseAuditLogKeys } from "@tollgate/sdk/audit";

export async function check(file: string, key: string): Promise<string> {
  const keys = await parseAuditLogKeys(key);
  try {
    const event = await keys.verifyProof(await readFile(file));
    return `proven: ${event.username} ${event.action} ${event.resource} at ${event.time}, event ${event.index}`;
  } catch (e) {
    if (e instanceof NotProvenError) return `not proven: ${e.message}`;
    throw e;
  }
}
