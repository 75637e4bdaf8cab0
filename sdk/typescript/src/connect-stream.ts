import type { ConnectError, Interceptor, StreamRequest } from "@connectrpc/connect";
import { decisionAbout, type Gate, named, undecidedBy } from "./protect.js";
import { type Refusal, refusalOf } from "./refusal.js";
import { sleep } from "./times.js";
import type { AuthorizeRequest, Principal } from "./types.js";

type Next = Parameters<Interceptor>[0];

/** A stream that was let through. */
export interface Stream {
  readonly gate: Gate;
  readonly request: AuthorizeRequest;
  readonly principal: Principal | undefined;
  readonly recheckMs: number;
  readonly errorOf: (refusal: Refusal) => ConnectError;
}

/** Ends a stream, which then sends and receives nothing more, when its caller may no longer have it. */
export async function watchStream(next: Next, req: StreamRequest, stream: Stream): ReturnType<Next> {
  const watch = new Watch();
  req.signal.addEventListener("abort", () => watch.stop(), { once: true });
  void follow(stream, watch.signal)
    .catch((e: unknown) => undecidedBy(stream.gate, e))
    .then((refusal) => refusal && watch.refuse(stream.errorOf(refusal)));
  try {
    const res = await next({ ...req, message: watch.guard(req.message) });
    return res.stream ? { ...res, message: watch.guard(res.message, () => watch.stop()) } : res;
  } catch (e) {
    watch.stop();
    throw e;
  }
}

/** Holds the refusal that ends a stream. */
class Watch {
  readonly #controller = new AbortController();
  readonly #waiting = new Set<(error: unknown) => void>();
  #refusal: unknown;

  /** Aborts at the end of the stream. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  stop(): void {
    this.#controller.abort();
  }

  refuse(error: unknown): void {
    this.#refusal = error;
    for (const reject of [...this.#waiting]) {
      reject(error);
    }
  }

  /** Passes messages on until the refusal. */
  async *guard<T>(messages: AsyncIterable<T>, done?: () => void): AsyncGenerator<T> {
    const iterator = messages[Symbol.asyncIterator]();
    try {
      for (;;) {
        const result = await this.#first(iterator.next());
        if (result.done) {
          return;
        }
        yield result.value;
      }
    } finally {
      done?.();
      void iterator.return?.().catch(() => {}); // a handler that waits for something else ends by itself
    }
  }

  /** Returns what a promise does, unless the refusal comes first. */
  async #first<T>(promise: Promise<T>): Promise<T> {
    let reject: (error: unknown) => void = () => {};
    const refused = new Promise<never>((_, r) => {
      reject = r;
    });
    this.#waiting.add(reject);
    try {
      if (this.#refusal !== undefined) {
        reject(this.#refusal);
      }
      const value = await Promise.race([refused, promise]);
      if (this.#refusal !== undefined) {
        throw this.#refusal;
      }
      return value;
    } finally {
      this.#waiting.delete(reject);
    }
  }
}

/**
 * Returns why the caller of a stream may no longer have it; undefined when signal aborts
 * before. It asks when half of the time between checks has passed, which leaves time for
 * another try.
 */
async function follow({ gate, request, principal, recheckMs }: Stream, signal: AbortSignal): Promise<Refusal | undefined> {
  const verifier = "recheck" in gate ? gate : undefined;
  const again = { ...request, recheck: true };
  let answered = performance.now();
  let wait = recheckMs / 2;
  // The jitter keeps the streams of a service from asking all at once.
  let due = answered + wait - (Math.random() * wait) / 4;
  for (;;) {
    const turn = new AbortController();
    const end = () => turn.abort();
    signal.addEventListener("abort", end, { once: true });
    // First, so that no message is missed in between.
    const news = verifier?.news(turn.signal);
    const reason = await verifier?.recheck(request.credential ?? "", principal);
    if (verifier && reason && reason !== "OK" && !signal.aborted) {
      end();
      return refusalOf(await verifier.report(again, reason), named(request));
    }
    const timer = sleep(Math.max(0, due - performance.now()), turn.signal, true).then(() => false);
    const heard = await Promise.race(news ? [news, timer] : [timer]);
    end();
    signal.removeEventListener("abort", end);
    if (signal.aborted) {
      return undefined;
    }
    if (heard) {
      continue;
    }
    const asked = performance.now();
    try {
      const d = await decisionAbout(gate, again, signal);
      if (!d.allowed) {
        return refusalOf(d, named(request));
      }
      answered = asked;
      wait = recheckMs / 2;
    } catch (e) {
      if (signal.aborted) {
        return undefined;
      }
      if (performance.now() - answered >= recheckMs) {
        return undecidedBy(gate, e);
      }
      wait = recheckMs / 8;
    }
    due = performance.now() + wait;
  }
}
