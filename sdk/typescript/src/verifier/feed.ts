import type { Client } from "@connectrpc/connect";
import type { AuthService, WatchRevocationsResponse } from "../gen/tollgate/v1/auth_pb.js";
import { Generations } from "../generations.js";
import { sleep, unref } from "../times.js";
import { clockSkew } from "../token.js";
import type { Reason } from "../types.js";
import { ageNow } from "./age.js";
import type { Keyring } from "./keyring.js";

/** Sessions, tokens, keys and users that are remembered. */
const maxRevoked = 1 << 20;
/** In ms. */
const firstRetry = 100;
const lastRetry = 5000;

/** What a token names that may be revoked. */
export interface Names {
  readonly sessionId: string;
  readonly tokenId: string;
  readonly apiKeyId: string;
  readonly userId: string;
}

export interface FeedOptions {
  readonly client: Client<typeof AuthService>;
  readonly keys: Keyring;
  /** How old in ms the latest message may be. */
  readonly boundMs: number;
  /** How long in ms tokens live, for which an entry is needed. */
  readonly ttlMs: number;
  readonly now: () => number;
  readonly log: (message: string, error: unknown) => void;
  /** Ends the feed. */
  readonly signal: AbortSignal;
}

/** Follows what Tollgate revokes. It forgets an entry when every token of that time has expired. */
export class Feed {
  readonly #o: FeedOptions;
  readonly #waiting = new Set<() => void>();
  #revoked = new Generations<string, true>(Number.POSITIVE_INFINITY);
  #rotated: () => number;
  #heard: (() => number) | undefined; // undefined: what is known is incomplete
  #revision = 0n;

  constructor(options: FeedOptions) {
    this.#o = options;
    this.#rotated = ageNow(options.now);
  }

  /** Says whether what a token names was revoked; undefined when that is not known, because the feed is lost. */
  look(names: Names): { reason: Reason; revision: bigint } | undefined {
    if (!this.#heard || this.#heard() > this.#o.boundMs) {
      return undefined;
    }
    const revoked = (["s", "t", "k"] as const).some((kind) =>
      this.#revoked.has(kind + { s: names.sessionId, t: names.tokenId, k: names.apiKeyId }[kind]),
    );
    const reason = revoked ? "CREDENTIAL_REVOKED" : this.#revoked.has(`u${names.userId}`) ? "USER_DISABLED" : "OK";
    return { reason, revision: this.#revision };
  }

  /** Returns when everything up to a revision is known; false when signal aborts before. */
  async wait(revision: bigint, signal: AbortSignal): Promise<boolean> {
    while (!this.#heard || this.#revision < revision) {
      if (signal.aborted || !(await this.next(signal))) {
        return false;
      }
    }
    return true;
  }

  /** Returns at the next message; false when signal aborts before. */
  next(signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const done = (news: boolean) => {
        this.#waiting.delete(tell);
        signal.removeEventListener("abort", abort);
        resolve(news);
      };
      const tell = () => done(true);
      const abort = () => done(false);
      this.#waiting.add(tell);
      signal.addEventListener("abort", abort, { once: true });
    });
  }

  /** Follows the feed until its signal aborts. */
  async run(): Promise<void> {
    const { signal, log } = this.#o;
    let wait = firstRetry;
    let lost = false;
    while (!signal.aborted) {
      const { received, error } = await this.#follow();
      if (received) {
        wait = firstRetry;
        lost = false;
      }
      if (!lost && !signal.aborted) {
        log("tollgate: the feed of revocations is lost", error);
        lost = true;
      }
      // The jitter keeps the services of a network from coming back all at once.
      await sleep(wait / 2 + (Math.random() * wait) / 2, signal, true);
      wait = Math.min(2 * wait, lastRetry);
    }
  }

  /** Applies the messages of one stream until it ends or is silent for too long. */
  async #follow(): Promise<{ received: boolean; error: unknown }> {
    const controller = new AbortController();
    const abort = () => controller.abort();
    this.#o.signal.addEventListener("abort", abort, { once: true });
    const silence = () => {
      const timer = setTimeout(abort, this.#o.boundMs);
      unref(timer);
      return timer;
    };
    let watchdog = silence();
    let received = false;
    try {
      for await (const message of this.#o.client.watchRevocations({}, { signal: controller.signal })) {
        if (!received && !message.snapshot) {
          throw new Error("the stream does not begin with a snapshot");
        }
        this.#take(message);
        received = true;
        clearTimeout(watchdog);
        watchdog = silence();
      }
      return { received, error: new Error("the stream ended") };
    } catch (error) {
      return { received, error };
    } finally {
      clearTimeout(watchdog);
      controller.abort();
      this.#o.signal.removeEventListener("abort", abort);
    }
  }

  /** Applies one message. */
  #take(message: WatchRevocationsResponse): void {
    // A snapshot that is older than what is known comes from an instance that lags, and
    // replaces nothing.
    if (message.snapshot && message.revision >= this.#revision) {
      this.#revoked = new Generations(Number.POSITIVE_INFINITY);
      this.#rotated = ageNow(this.#o.now);
    }
    if (this.#rotated() > this.#o.ttlMs + clockSkew) {
      this.#revoked.rotate();
      this.#rotated = ageNow(this.#o.now);
    }
    for (const id of message.restoredUserIds) {
      this.#revoked.delete(`u${id}`);
    }
    const lists = { s: message.sessionIds, k: message.apiKeyIds, u: message.userIds, t: message.tokenIds };
    for (const [kind, ids] of Object.entries(lists)) {
      for (const id of ids) {
        this.#revoked.set(kind + id, true);
      }
    }
    const remembered = message.signingKeyIds.length === 0 || this.#o.keys.remove(message.signingKeyIds);
    if (!remembered || this.#revoked.size > maxRevoked) {
      this.#heard = undefined;
      throw new Error("more is revoked than can be remembered; tokens are not verified locally");
    }
    this.#heard = ageNow(this.#o.now);
    if (message.revision > this.#revision) {
      this.#revision = message.revision;
    }
    for (const tell of [...this.#waiting]) {
      tell();
    }
  }
}
