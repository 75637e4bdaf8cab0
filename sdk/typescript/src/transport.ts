import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { kindOf } from "./credential.js";
import { limitMessages } from "./envelopes.js";

/** Gives the credential of this service for one call. */
export type CredentialSource = () => string | Promise<string>;

/** Bytes of one answer. */
const maxAnswer = 1 << 20;

/** No connection was made, so Tollgate did nothing. */
export class NotSentError extends Error {
  override readonly name = "NotSentError";
}

export interface TransportOptions {
  readonly url: string;
  readonly fetch: typeof globalThis.fetch;
  /** Undefined: calls carry no credential. */
  readonly credential: CredentialSource | undefined;
  /** Undefined: calls last as long as they like, as streams do. */
  readonly timeoutMs: number | undefined;
  readonly interceptors: Interceptor[];
}

/** Returns a transport that speaks Connect with binary messages. */
export function newTransport(o: TransportOptions): Transport {
  return createConnectTransport({
    baseUrl: o.url,
    useBinaryFormat: true,
    interceptors: o.interceptors,
    fetch: caller(o),
    ...(o.timeoutMs === undefined ? {} : { defaultTimeoutMs: o.timeoutMs }),
  });
}

/**
 * Returns a fetch that presents the credential, and refuses redirects, which would
 * send it elsewhere. Its errors are ConnectErrors.
 */
function caller(o: TransportOptions): typeof globalThis.fetch {
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    headers.set("Accept-Encoding", "identity"); // compression costs both sides more than it saves
    if (o.credential) {
      headers.set("Authorization", `Bearer ${await credentialOf(o.credential)}`);
    }
    const res = await send(o.fetch, input, init, headers);
    // A browser answers about a redirect with the status 0.
    if (res.type === "opaqueredirect" || (res.status >= 300 && res.status < 400)) {
      void res.body?.cancel();
      throw new ConnectError("the URL answers with a redirect; give the address that it leads to", Code.FailedPrecondition);
    }
    const streams = res.headers.get("content-type")?.startsWith("application/connect+");
    return streams ? limitMessages(res) : bounded(res);
  };
}

async function credentialOf(source: CredentialSource): Promise<string> {
  let credential: string;
  try {
    credential = await source();
  } catch (cause) {
    throw new ConnectError("the source of the credential failed", Code.Unauthenticated, undefined, undefined, cause);
  }
  if (typeof credential !== "string" || kindOf(credential) === undefined) {
    throw new ConnectError("the credential is neither an access token nor an API key", Code.Unauthenticated);
  }
  return credential;
}

async function send(
  fetch: typeof globalThis.fetch,
  input: Parameters<typeof globalThis.fetch>[0],
  init: RequestInit | undefined,
  headers: Headers,
): Promise<Response> {
  const { method = "POST", body = null, signal = null } = init ?? {};
  try {
    return await fetch(input, { method, body, signal, headers, redirect: "manual" });
  } catch (e) {
    if (e instanceof ConnectError || signal?.aborted) {
      throw e;
    }
    const code = codeOf(e);
    const message = `Tollgate cannot be reached${code === "" ? "" : ` (${code})`}`;
    const cause = neverSent.has(code) ? new NotSentError(message, { cause: e }) : e;
    throw new ConnectError(message, Code.Unavailable, undefined, undefined, cause);
  }
}

/** The codes with which Node and Bun say that there is no connection. */
const neverSent = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "ConnectionRefused",
]);

/** Finds the code of the operating system in the error of a fetch. */
function codeOf(thrown: unknown): string {
  for (let e = thrown, depth = 0; typeof e === "object" && e !== null && depth < 4; depth++) {
    if ("code" in e && typeof e.code === "string") {
      return e.code;
    }
    e = "errors" in e && Array.isArray(e.errors) && e.errors.length > 0 ? e.errors[0] : "cause" in e ? e.cause : undefined;
  }
  return "";
}

/** Fails an answer that is too large. */
function bounded(res: Response): Response {
  const length = res.headers.get("content-length");
  if (length !== null && !res.headers.has("content-encoding")) {
    if (Number(length) <= maxAnswer) {
      return res;
    }
    void res.body?.cancel();
    throw tooLarge();
  }
  if (!res.body) {
    return res;
  }
  let left = maxAnswer;
  const counted = res.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, out) {
        left -= chunk.length;
        if (left < 0) {
          out.error(tooLarge());
        } else {
          out.enqueue(chunk);
        }
      },
    }),
  );
  return new Response(counted, { status: res.status, headers: res.headers });
}

const tooLarge = () => new ConnectError("the answer has more than 1 MiB; ask for smaller pages", Code.ResourceExhausted);
