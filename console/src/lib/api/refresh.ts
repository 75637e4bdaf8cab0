import { fromWire, unreachable } from "./problem";

/** What the session endpoints answer with; the refresh token stays in its cookie. */
export interface Tokens {
  accessToken: string;
  expiresIn: number;
  sessionId: string;
  userId?: string;
  passwordChangeRequired?: boolean;
}

/**
 * Calls one of the server's session endpoints. keepalive lets the request end when the
 * page does not: the answer's cookie must arrive, because a refresh token works once.
 */
export async function post(path: "login" | "refresh" | "logout", body?: object): Promise<Tokens> {
  const response = await fetch(`/console/session/${path}`, {
    method: "POST",
    ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
    keepalive: true,
  }).catch(() => {
    throw unreachable();
  });
  const answer: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw fromWire(response.status, answer);
  return answer as Tokens;
}

const startedKey = "tollgate.refresh-started";
const settleMs = 1000;

/**
 * Spends the refresh token of the cookie. Only one tab does at a time, and none while a
 * page that is gone may still have a request under way.
 */
export async function spend(newer: () => Tokens | undefined): Promise<Tokens> {
  return navigator.locks.request("tollgate-refresh", async () => {
    const others = newer();
    if (others) return others;
    const began = Number(localStorage.getItem(startedKey) ?? 0);
    const wait = began + settleMs - Date.now();
    if (wait > 0 && wait <= settleMs) await new Promise((resolve) => setTimeout(resolve, wait));
    localStorage.setItem(startedKey, String(Date.now()));
    try {
      return await post("refresh");
    } finally {
      localStorage.removeItem(startedKey);
    }
  });
}
