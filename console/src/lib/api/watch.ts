import { audit, auth } from "./clients";
import { delay, follow } from "./stream";
import { session } from "./session.svelte";

const everyMs = 800;

/**
 * Notices within a second that the session was ended elsewhere. Who may read the audit log
 * has a stream, in one tab for all, which tells of every ended session and ends with the
 * caller's own. Others ask who they are, again and again: one tab for all that are hidden,
 * whose timers browsers slow down, and each that is seen.
 */
export function watchSession(signal: AbortSignal): void {
  let leads = false;
  navigator.locks
    .request("tollgate-watch", { signal }, async () => {
      leads = true;
      if (session.can("tollgate:audit:read")) await stream(signal);
      await poll(signal, () => true); // the stream ended and the session did not
    })
    .catch(() => undefined); // the wait for the lock was aborted
  if (!session.can("tollgate:audit:read")) void poll(signal, () => !leads && !document.hidden);
  document.addEventListener("visibilitychange", () => !document.hidden && void ask(signal), { signal });
}

const stream = (signal: AbortSignal) =>
  follow((s) => audit.watchEvents({ action: "session.revoke" }, { signal: s, timeoutMs: 0 }), signal, {
    message: ({ event }) => {
      if (event) void ask(signal);
    },
  });

async function poll(signal: AbortSignal, wanted: () => boolean): Promise<void> {
  while (!signal.aborted) {
    await delay(everyMs, signal);
    if (wanted()) await ask(signal);
  }
}

/** The transport ends the session when the answer says that it is over. */
async function ask(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await auth.whoAmI({}, { signal, timeoutMs: 2000 }).catch(() => undefined);
}
