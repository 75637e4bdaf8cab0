import { kindOf } from "./credential.js";
import type { OnUnavailable } from "./failure.js";
import type { CredentialSource } from "./transport.js";

/** How a {@link Tollgate} works. */
export interface TollgateOptions {
  /**
   * Such as "https://tollgate.internal". The credential is sent to that address only.
   * With http: it is sent in the clear: use that on the loopback interface or on an
   * encrypted network.
   */
  url: string;
  /** An API key of this service's own account, which needs the built-in role "service". */
  apiKey?: string | undefined;
  /** Instead of it an access token, for a program that ends before the token does. */
  accessToken?: string | undefined;
  /**
   * Instead of both a function that gives either for each call. Calls of such a client
   * share no requests, because it may give each another credential.
   */
  credential?: CredentialSource | undefined;
  /** Bounds every call but streams, its retries included; 2000 unless given. */
  timeoutMs?: number | undefined;
  /** What becomes of a call when Tollgate does not answer: "deny" unless given. */
  onUnavailable?: OnUnavailable | undefined;
  /**
   * Whether concurrent calls to authorize share requests; they do unless this is false. On
   * Cloudflare Workers they do not unless this is true, which takes a client for each
   * request there: a request that waits for what another one fetches may wait in vain.
   */
  batch?: boolean | undefined;
  /**
   * How often a call is made again at most, 2 times unless given: when Tollgate was not
   * reached, says that it did not take the call, or the call does nothing twice. Calls
   * that count carry a key by which they count once.
   */
  retries?: number | undefined;
  /**
   * Finds a caller's IP address when a proxy stands in front of this service; `remote` is
   * the address of the peer, where the platform tells it. Unless given, the peer's own
   * address counts, which is right without a proxy. A caller can write anything into
   * X-Forwarded-For: trust it only when `remote` is your proxy, and then only the entry
   * that your proxy appended, the last.
   */
  clientIp?: ((remote: string | undefined, headers: Headers) => string | undefined) | undefined;
  /** Makes the requests: globalThis.fetch unless given. Redirects are refused all the same. */
  fetch?: typeof globalThis.fetch | undefined;
  /** Gets what goes wrong without an error for the caller; console.error unless given. */
  log?: ((message: string, error: unknown) => void) | undefined;
  /** Gives the time in ms since 1970, for tests; Date.now unless given. */
  now?: (() => number) | undefined;
}

/** Fills in the defaults, and refuses what cannot work. */
export function checked(o: TollgateOptions) {
  const { timeoutMs = 2000, retries = 2 } = o;
  if (!(timeoutMs > 0 && timeoutMs < 2 ** 31)) {
    throw new TypeError("tollgate: timeoutMs must be more than 0");
  }
  if (!Number.isInteger(retries) || retries < 0 || retries > 10) {
    throw new TypeError("tollgate: retries must be from 0 to 10");
  }
  return {
    url: baseOf(o.url),
    credential: credentialOf(o),
    /** Every call has the same credential. */
    oneCredential: o.credential === undefined,
    timeoutMs,
    retries,
    onUnavailable: o.onUnavailable ?? "deny",
    batch: o.batch ?? !onWorkers(),
    clientIp: o.clientIp,
    // Browsers and Workers want it called on the global object.
    fetch: o.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    // biome-ignore lint/suspicious/noConsole: where a program has no log of its own
    log: o.log ?? ((message: string, error: unknown) => console.error(message, error)),
    now: o.now ?? Date.now,
  } as const;
}

/** Node 20 has no navigator. */
const onWorkers = () => globalThis.navigator?.userAgent === "Cloudflare-Workers";

function credentialOf({ apiKey, accessToken, credential }: TollgateOptions): CredentialSource | undefined {
  if ([apiKey, accessToken, credential].filter((given) => given !== undefined).length > 1) {
    throw new TypeError("tollgate: give one of apiKey, accessToken and credential");
  }
  if (apiKey !== undefined && kindOf(apiKey) !== "apiKey") {
    throw new TypeError("tollgate: apiKey must be one that Tollgate issued: it starts with tg_");
  }
  if (accessToken !== undefined && kindOf(accessToken) !== "accessToken") {
    throw new TypeError("tollgate: accessToken must be one that Tollgate issued");
  }
  const given = apiKey ?? accessToken;
  return given === undefined ? credential : () => given;
}

function baseOf(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    // The parser's error repeats the URL, which may hold a password.
    throw new TypeError("tollgate: url must look like https://tollgate.example.com");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new TypeError("tollgate: url must look like https://tollgate.example.com");
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new TypeError("tollgate: url must hold no user, query or fragment; give the credential as apiKey");
  }
  return text.replace(/\/+$/, "");
}
