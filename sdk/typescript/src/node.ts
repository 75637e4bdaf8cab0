import type { Incoming } from "./protect.js";

/** What Node's requests have, of HTTP/1.1 and HTTP/2. */
export interface NodeRequest {
  readonly headers: { readonly [name: string]: string | string[] | undefined };
  readonly rawHeaders?: readonly string[];
  readonly socket?: { readonly remoteAddress?: string | undefined };
}

/** Reads a request of Node. Its `headers` leave a second Authorization field out, so these are read as they came. */
export function incomingOf(req: NodeRequest, url: string): Incoming {
  const header = (name: string) => {
    const value = req.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  };
  const raw = pairs(
    req.rawHeaders ?? Object.entries(req.headers).flatMap(([name, value]) => [value ?? []].flat().flatMap((v) => [name, v])),
  );
  return {
    authorization: raw.filter(([name]) => name.toLowerCase() === "authorization").map(([, value]) => value),
    header,
    headers: () => new Headers(raw.filter(([name]) => !name.startsWith(":"))),
    remote: req.socket?.remoteAddress,
    // A request may name its server, too (RFC 9112 §3.2.2).
    path: url.replace(/^https?:\/\/[^/?#]*/i, "").replace(/[?#].*$/s, ""),
  };
}

function pairs(raw: readonly string[]): [string, string][] {
  const list: [string, string][] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    list.push([raw[i] ?? "", raw[i + 1] ?? ""]);
  }
  return list;
}
