import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Event } from "@tollgate/audit_pb.js";
import { audit } from "@/lib/api/clients";

const aroundMs = 2000;
const pages = 4;

/** Reads one event, by the time in its id (RFC 9562 §5.7), as there is no call for it. */
export async function findEvent(id: string, signal: AbortSignal): Promise<Event | undefined> {
  const ms = Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);
  if (!/^[0-9a-f-]{36}$/.test(id) || Number.isNaN(ms)) return undefined;
  let pageToken = "";
  for (let page = 0; page < pages; page++) {
    const answer = await audit.listEvents(
      { after: timestampFromMs(ms - aroundMs), before: timestampFromMs(ms + aroundMs), pageSize: 250, pageToken },
      { signal },
    );
    const found = answer.events.find((event) => event.id === id);
    if (found || !answer.nextPageToken) return found;
    pageToken = answer.nextPageToken;
  }
  return undefined;
}
