import type { Incoming } from "./protect.js";

/** Reads a request of the fetch API, which joins two Authorization fields with a comma: no token has one. */
export function incomingOf(request: Request): Incoming {
  const authorization = request.headers.get("authorization");
  return {
    authorization: authorization === null ? [] : [authorization],
    header: (name) => request.headers.get(name) ?? undefined,
    headers: () => request.headers,
    path: new URL(request.url).pathname,
    signal: request.signal,
  };
}
