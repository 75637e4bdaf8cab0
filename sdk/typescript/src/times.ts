import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

/** Rounds up to whole ms, so that nobody comes back too early. */
export const milliseconds = (d: Duration): number => Number(d.seconds) * 1000 + Math.ceil(d.nanos / 1e6);

export const dateOf = (t: Timestamp): Date => new Date(Number(t.seconds) * 1000 + Math.floor(t.nanos / 1e6));

/** Waits, less long when signal aborts; false then. It keeps no process alive with `idle`. */
export function sleep(ms: number, signal?: AbortSignal, idle = false): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve(false);
      return;
    }
    const abort = () => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve(true);
    }, ms);
    if (idle) {
      unref(timer);
    }
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** Lets the process end while a timer runs, where the runtime has such timers. */
export function unref(timer: unknown): void {
  if (typeof timer === "object" && timer !== null && "unref" in timer && typeof timer.unref === "function") {
    timer.unref();
  }
}

/** A deadline of one call, which its caller's signal may bring forward. */
export interface Deadline {
  readonly signal: AbortSignal;
  /** In ms of performance.now(). */
  readonly at: number;
  /** The caller's signal aborted, and not the time. */
  readonly canceled: () => boolean;
  /** Releases the timer. */
  readonly end: () => void;
}

export function deadlineIn(ms: number, callers?: AbortSignal): Deadline {
  const controller = new AbortController();
  const abort = () => controller.abort(callers?.reason);
  const timer = setTimeout(() => controller.abort(new ConnectError("Tollgate did not answer in time", Code.DeadlineExceeded)), ms);
  if (callers?.aborted) {
    abort();
  }
  callers?.addEventListener("abort", abort, { once: true });
  return {
    signal: controller.signal,
    at: performance.now() + ms,
    canceled: () => callers?.aborted === true,
    end: () => {
      clearTimeout(timer);
      callers?.removeEventListener("abort", abort);
    },
  };
}
