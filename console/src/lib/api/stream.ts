import { Code } from "@connectrpc/connect";
import { problem, type Problem } from "./problem";
import { session } from "./session.svelte";

export type Status = "connecting" | "live" | "waiting";

interface Handlers<T> {
  message: (message: T) => void;
  status?: (status: Status, p?: Problem) => void;
}

/**
 * Keeps a server's stream open until the signal aborts or the caller may no longer have
 * it. open is called again after each end, with the signal for the call.
 */
export async function follow<T>(open: (signal: AbortSignal) => AsyncIterable<T>, signal: AbortSignal, on: Handlers<T>): Promise<void> {
  for (let wait = 250; !signal.aborted; ) {
    on.status?.("connecting");
    let p: Problem | undefined;
    try {
      for await (const message of open(signal)) {
        wait = 250;
        on.status?.("live");
        on.message(message);
      }
    } catch (cause) {
      if (signal.aborted) return;
      p = problem(cause);
      if (p.reason === "CREDENTIAL_EXPIRED") {
        await session.refresh().catch(() => undefined);
        continue;
      }
      if (p.code === Code.Unauthenticated && !p.stepUp) return session.end("ended");
      if (p.denied || p.code === Code.InvalidArgument || p.code === Code.FailedPrecondition) return on.status?.("waiting", p);
    }
    on.status?.("waiting", p);
    await delay(Math.max(wait, p?.retryAfter ?? 0), signal);
    wait = Math.min(wait * 2, 8000);
  }
}

export function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
