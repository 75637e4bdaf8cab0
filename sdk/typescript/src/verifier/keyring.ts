import { newError, type TollgateError } from "../errors.js";
import { deadlineIn, sleep } from "../times.js";
import { ageNow } from "./age.js";
import { type Key, maxKeySet, parseKeySet } from "./keys.js";

/** How long in ms the key set may be kept. */
export const keySetMaxAge = 5 * 60_000;
/** In ms between two fetches, whatever tokens ask for. */
const keysInterval = 5000;
/** Removed keys that are remembered. */
const maxRemoved = 1 << 12;

export interface KeyringOptions {
  readonly url: string;
  readonly fetch: typeof globalThis.fetch;
  readonly timeoutMs: number;
  readonly now: () => number;
  /** How old in ms the keys may get when they cannot be fetched. */
  readonly staleMs: number;
  /** Ends the fetches. */
  readonly signal: AbortSignal;
}

/**
 * Holds Tollgate's public keys and fetches them again when they are old or a token names
 * one that it lacks. Concurrent callers share a fetch.
 */
export class Keyring {
  readonly #o: KeyringOptions;
  readonly #removed = new Set<string>(); // ids of keys that are never accepted again
  #keys = new Map<string, Key>();
  #age: () => number = () => Number.POSITIVE_INFINITY;
  #sinceFetch: () => number = () => Number.POSITIVE_INFINITY;
  #fetching: Promise<void> | undefined;
  #failed: unknown; // why the latest fetch failed

  constructor(options: KeyringOptions) {
    this.#o = options;
  }

  /** Returns the key with this id; undefined when there is none. It throws when that is not known. */
  async find(id: string): Promise<Key | undefined> {
    for (let waited = false; ; waited = true) {
      const key = this.#keys.get(id);
      const age = this.#age();
      const usable = this.#keys.size > 0 && age <= this.#o.staleMs;
      if (key && usable && age < keySetMaxAge) {
        return key;
      }
      const fetching = this.#fetch();
      if (waited || !fetching) {
        if (key && usable) {
          return key;
        }
        if (this.#failed !== undefined || !usable) {
          throw this.#noAnswer();
        }
        return undefined;
      }
      if (key && usable && age < 2 * keySetMaxAge) {
        return key; // the fetch goes on
      }
      await fetching;
    }
  }

  /** Says whether a key is in a set that is fresh. */
  holds(key: Key): boolean {
    return this.#keys.get(key.id) === key && this.#age() < keySetMaxAge;
  }

  /** Returns when there are keys; false when the verifier was closed before. */
  async wait(signal: AbortSignal): Promise<boolean> {
    while (this.#keys.size === 0) {
      const fetching = this.#fetch();
      if (signal.aborted || (!fetching && !(await sleep(1000, signal)))) {
        return false;
      }
      await fetching;
    }
    return true;
  }

  /** Drops keys for good, and fetches their successors. False: they are more than can be remembered. */
  remove(ids: readonly string[]): boolean {
    let dropped = false;
    for (const id of ids) {
      this.#removed.add(id);
      dropped = this.#keys.delete(id) || dropped;
    }
    if (dropped) {
      void this.#fetch();
    }
    return this.#removed.size <= maxRemoved;
  }

  /** Keeps the keys fresh, so that calls need not wait for them. */
  async run(): Promise<void> {
    do {
      await this.#fetch();
    } while (await sleep(this.#failed === undefined ? keySetMaxAge : keysInterval, this.#o.signal, true));
  }

  /** Joins the fetch under way or starts one; undefined too soon after the latest. It is never rejected. */
  #fetch(): Promise<void> | undefined {
    if (this.#fetching || this.#sinceFetch() < keysInterval) {
      return this.#fetching;
    }
    const age = ageNow(this.#o.now);
    this.#fetching = this.#download()
      .then(
        (keys) => {
          this.#replace(keys);
          this.#age = age;
          this.#failed = undefined;
        },
        (e: unknown) => {
          this.#failed = e;
        },
      )
      .finally(() => {
        this.#sinceFetch = age;
        this.#fetching = undefined;
      });
    return this.#fetching;
  }

  /**
   * Stores keys. It keeps those that are there already, so that tokens that were verified
   * with them need not be verified again. Removed keys are left out: the answer may come
   * from a cache.
   */
  #replace(keys: Map<string, Key>): void {
    const next = new Map<string, Key>();
    for (const [id, key] of keys) {
      if (!this.#removed.has(id)) {
        const old = this.#keys.get(id);
        next.set(id, old?.text === key.text ? old : key);
      }
    }
    this.#keys = next;
  }

  async #download(): Promise<Map<string, Key>> {
    const deadline = deadlineIn(this.#o.timeoutMs, this.#o.signal);
    try {
      const res = await this.#o.fetch(`${this.#o.url}/.well-known/jwks.json`, { signal: deadline.signal, redirect: "manual" });
      if (res.status !== 200) {
        void res.body?.cancel();
        throw new Error(`the answer has the status ${res.status}`);
      }
      return await parseKeySet(await textOf(res, maxKeySet));
    } finally {
      deadline.end();
    }
  }

  #noAnswer(): TollgateError {
    return newError("the public keys cannot be fetched", { code: "unavailable" }, this.#failed);
  }
}

async function textOf(res: Response, most: number): Promise<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const reader = res.body?.getReader();
  let text = "";
  for (let size = 0; reader; ) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    size += value.length;
    if (size > most) {
      void reader.cancel();
      throw new Error("the key set is too large");
    }
    text += decoder.decode(value, { stream: true });
  }
  return text + decoder.decode();
}
