// What a case of sdk/testdata says: values, and servers that answer by a script.

import { once } from "node:events";
import { createServer, request } from "node:http";

export type Value = null | boolean | number | string | Value[] | { [name: string]: Value };
export type Members = { [name: string]: Value };

const placeholder = /\$\{(?:repeat (\S+) (\d+)|now\+(\d+)s|(\w+))\}/g;

/** Puts what was saved in the place of ${name}. A value that is nothing else keeps its type. */
export function fill(value: Value, saved: Members): Value {
  if (typeof value === "string") {
    const whole = /^\$\{(\w+)\}$/.exec(value)?.[1];
    return whole !== undefined
      ? (saved[whole] ?? null)
      : value.replace(placeholder, (_, text?: string, times?: string, seconds?: string, name?: string) => {
          if (text !== undefined) return text.repeat(Number(times));
          if (seconds !== undefined) return new Date(Date.now() + Number(seconds) * 1000).toISOString();
          return String(saved[name ?? ""]);
        });
  }
  if (Array.isArray(value)) {
    return value.map((v) => fill(v, saved));
  }
  return typeof value === "object" && value !== null
    ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, fill(v, saved)]))
    : value;
}

/** Says where `got` is not what is wanted: null is anything empty, "*" anything else, an object has at least the members wanted. */
export function unlike(path: string, want: Value, got: Value | undefined): string {
  const empty = !got || (typeof got === "object" && Object.keys(got).length === 0);
  const different = `${path} is ${JSON.stringify(got)}, want ${JSON.stringify(want)}`;
  if (want === null || want === "*") {
    return empty === (want === null) ? "" : different;
  }
  if (Array.isArray(want)) {
    const entries = Array.isArray(got) ? got : [];
    return entries.length === want.length ? first(want.map((value, i) => unlike(`${path}[${i}]`, value, entries[i]))) : different;
  }
  if (typeof want === "object") {
    return typeof got === "object" && got !== null && !Array.isArray(got)
      ? first(Object.entries(want).map(([name, value]) => unlike(`${path}.${name}`, value, got[name])))
      : different;
  }
  return want === got ? "" : different;
}

const first = (problems: string[]) => problems.find((p) => p !== "") ?? "";

export type Entry = "forward" | "lose" | "silent" | { status: number; header?: Record<string, string>; body?: Value };

/** Serves a script: each request takes the next entry, and the last one lasts. */
export async function scripted(behind: string, script: Entry[], saved: Members) {
  let requests = 0;
  const server = createServer(async (req, res) => {
    const entry = script[Math.min(requests++, script.length - 1)] ?? "silent";
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk);
    if (entry === "silent") {
      return;
    }
    if (typeof entry === "object") {
      const text = typeof entry.body === "string";
      for (const [name, value] of Object.entries({ ...(text ? {} : { "Content-Type": "application/json" }), ...entry.header })) {
        res.setHeader(name, String(fill(value, saved)));
      }
      res.writeHead(entry.status);
      res.end(text ? String(fill(entry.body ?? "", saved)) : JSON.stringify(entry.body ?? null));
      return;
    }
    const { method, headers } = req;
    const forwarded = request(behind + req.url, { method: method ?? "POST", headers }, async (answer) => {
      const body: Buffer[] = [];
      for await (const chunk of answer) body.push(chunk);
      if (entry === "lose") {
        res.destroy();
      } else {
        res.writeHead(answer.statusCode ?? 500, answer.headers).end(Buffer.concat(body));
      }
    });
    forwarded.on("error", () => res.destroy()).end(Buffer.concat(chunks));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`,
    requests: () => requests,
    close: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
