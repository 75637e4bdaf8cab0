import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Problem } from "./api/problem";

/** Refuses to save over what somebody else saved since it was read: an update knows no version. */
export function mustBeUnchanged(what: string, before: Timestamp | undefined, now: Timestamp | undefined): void {
  const at = (time: Timestamp | undefined) => (time ? timestampMs(time) : 0);
  if (at(before) === at(now)) return;
  throw new Problem(`Somebody else has changed ${what} since you opened it. Reload the page to see how it is now.`, Code.Aborted, "CHANGED_SINCE");
}
