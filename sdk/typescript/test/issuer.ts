// A Tollgate in this process that signs tokens and tells its feed what a test wants.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { base64url, CompactSign, type CryptoKey, exportJWK, generateKeyPair, type JWK } from "jose";
import { AuthService, type WatchRevocationsResponseSchema } from "../src/gen/tollgate/v1/auth_pb.js";
import { Reason } from "../src/gen/tollgate/v1/reason_pb.js";
import { Tollgate, type TollgateOptions } from "../src/index.js";
import { Verifier, type VerifierOptions } from "../src/verifier.js";
import { latch, serving } from "./fake.js";

type Message = MessageInitShape<typeof WatchRevocationsResponseSchema>;
export type Algorithm = "EdDSA" | "ES256" | "RS256";

export interface Pair {
  readonly id: string;
  readonly algorithm: Algorithm;
  readonly privateKey: CryptoKey;
  readonly jwk: JWK;
}

export async function newPair(algorithm: Algorithm, id: string): Promise<Pair> {
  const { publicKey, privateKey } = await generateKeyPair(algorithm, {
    extractable: true,
    ...(algorithm === "EdDSA" ? { crv: "Ed25519" } : {}),
  });
  return { id, algorithm, privateKey, jwk: { ...(await exportJWK(publicKey)), kid: id, alg: algorithm, use: "sig" } };
}

export const issuer = "https://tollgate.test";

export class Issuer {
  readonly pair: Pair;
  /** The key set, or how it cannot be fetched. */
  keys: unknown[] | Error;
  /** How often the key set was fetched. */
  fetches = 0;
  /** How many streams of the feed were begun. */
  streams = 0;
  #begun = latch();
  /** How often Tollgate was asked about a credential. */
  asked = 0;
  readonly fetch: typeof fetch;
  #messages: Message[] = [{ snapshot: true, revision: 1n }];
  #news = latch();

  constructor(pair: Pair) {
    this.pair = pair;
    this.keys = [pair.jwk];
    const rpcs = serving((router) =>
      router.service(AuthService, {
        verify: () => {
          this.asked++;
          return { active: true, reason: Reason.OK, principal: { userId: "asked" } };
        },
        watchRevocations: (_, context) => this.#feed(context.signal),
      }),
    );
    this.fetch = async (input, init) => {
      if (!String(input).endsWith("/.well-known/jwks.json")) {
        return rpcs(input, init);
      }
      this.fetches++;
      expectNoCredential(init);
      if (this.keys instanceof Error) {
        throw this.keys;
      }
      return Response.json({ keys: this.keys });
    };
  }

  /** Tells the feed; a new stream gets everything anew. */
  tell(message: Message): void {
    this.#messages.push(message);
    this.#wake();
  }

  /** Forgets what the feed has told: a new stream begins with these. */
  begin(...messages: Message[]): void {
    this.#messages = messages;
  }

  /** Returns when so many streams of the feed were begun. */
  async followed(count: number): Promise<void> {
    while (this.streams < count) await this.#begun.promise;
  }

  /** Ends the feed's streams. */
  break(): void {
    this.#broken = true;
    this.#wake();
  }

  #broken = false;

  async *#feed(signal: AbortSignal): AsyncGenerator<Message> {
    this.streams++;
    this.#begun.open();
    this.#begun = latch();
    this.#broken = false;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    for (let sent = 0; !signal.aborted && !this.#broken; ) {
      const news = this.#news.promise;
      for (; sent < this.#messages.length; sent++) {
        yield this.#messages[sent] ?? {};
      }
      await news;
    }
  }

  #wake(): void {
    this.#news.open();
    this.#news = latch();
  }

  gate(options: Partial<TollgateOptions> = {}): Tollgate {
    return new Tollgate({ url: issuer, apiKey: "tg_service", fetch: this.fetch, log: () => {}, retries: 0, ...options });
  }

  verifier(options: Partial<VerifierOptions> = {}, client: Partial<TollgateOptions> = {}): Verifier {
    return new Verifier(this.gate(client), { issuer, audience: "shop", feedBoundMs: 60_000, ...options });
  }

  /** Signs a good token but for these changes; undefined leaves a claim out. */
  async token(claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}, pair = this.pair): Promise<string> {
    const payload = { ...goodClaims(), ...claims };
    return new CompactSign(new TextEncoder().encode(JSON.stringify(payload)))
      .setProtectedHeader({ alg: pair.algorithm, kid: pair.id, typ: "at+jwt", ...header })
      .sign(pair.privateKey);
  }
}

export const goodClaims = (now = Math.floor(Date.now() / 1000)) => ({
  iss: issuer,
  aud: "shop",
  sub: "user-alice",
  client_id: "tollgate",
  jti: "token-1",
  sid: "session-1",
  iat: now,
  exp: now + 60,
});

/** Joins parts that were made by hand. */
export const joined = (header: unknown, payload: unknown, signature: Uint8Array = new Uint8Array(64)): string =>
  [JSON.stringify(header), JSON.stringify(payload), signature].map((part) => base64url.encode(part)).join(".");

function expectNoCredential(init: RequestInit | undefined): void {
  if (new Headers(init?.headers).has("authorization")) {
    throw new Error("the key set was asked for with a credential");
  }
}
