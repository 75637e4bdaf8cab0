import { audit, auth } from "./clients";
import { delay, follow } from "./stream";
import { session } from "./session.svelte";

const everyMs = 800;

/**
 * Notices within a second that the session was ended elsewhere. One tab of the browser
 * does it for all. Who may read the audit log has a stream, which tells of every ended
 * session and ends with the caller's own; others ask who they are, again and again.
 */
export function watchSession(signal: AbortSignal): void {
  void navigator.locks
    .request("tollgate-watch", { signal }, () =>
      session.can("tollgate:audit:read")
        ? follow((s) => audit.watchEvents({ action: "session.revoke" }, { signal: s, timeoutMs: 0 }), signal, {
            message: ({ event }) => {
              if (event) void ask(signal);
            },
          })
        : poll(signal),
    )
    .catch(() => undefined); // the wait for the lock was aborted
}

async function poll(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await delay(everyMs, signal);
    await ask(signal);
  }
}

/** The transport ends the session when the answer says that it is over. */
async function ask(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await auth.whoAmI({}, { signal, timeoutMs: 2000 }).catch(() => undefined);
}
