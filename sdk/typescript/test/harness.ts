import { setTimeout } from "node:timers/promises";
import { inject } from "vitest";
import { Tollgate, type TollgateOptions } from "../src/index.js";
import { Admin } from "./server.js";

/** The administrator of the server that tests share. */
export const admin = (): Admin => {
  const { url, token } = inject("server");
  return new Admin(url, token);
};

let names = 0;

/** Returns a name that no other test has. */
export const fresh = (prefix: string): string => `${prefix}-${process.pid.toString(36)}-${++names}`;

/** Returns a client of the shared server. */
export const gate = (options: Partial<TollgateOptions> = {}): Tollgate =>
  new Tollgate({ url: inject("server").url, apiKey: inject("key"), timeoutMs: 10_000, log: () => {}, ...options });

/** Signs a new person with these permissions in. */
export async function signedIn(...permissions: string[]) {
  const user = await admin().person(fresh("alice"), ...permissions);
  return { ...user, ...(await admin().login(user.name)) };
}

/** A fetch that remembers which RPCs were called. */
export function recording(next: typeof fetch = fetch): { fetch: typeof fetch; calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    fetch: (input, init) => {
      calls.push(String(input).replace(/.*\//, ""));
      return next(input, init);
    },
  };
}

/**
 * Asks again and again until there is no problem, and returns the last one after ten
 * seconds: for what only the clock of another process brings about.
 */
export async function inTime(problem: () => Promise<string>): Promise<string> {
  for (let last = await problem(), late = performance.now() + 10_000; ; last = await problem()) {
    if (last === "" || performance.now() > late) return last;
    await setTimeout(50);
  }
}

/** Returns what a promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (e) {
    return e;
  }
  throw new Error("it did not fail");
}
