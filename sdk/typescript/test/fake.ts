// A Tollgate in this process that answers as a test wants it to, over Connect's own
// implementation of the protocol.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Code, ConnectError, type ConnectRouter, createConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import { codeName, toError } from "../src/errors.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { Reason } from "../src/gen/tollgate/v1/reason_pb.js";
import {
  type AuthorizeRequest,
  AuthorizeResponseSchema,
  BatchAuthorizeResponseSchema,
  type BatchFailure,
  BatchFailureSchema,
  RolesService,
} from "../src/gen/tollgate/v1/roles_pb.js";
import { Tollgate, type TollgateOptions } from "../src/index.js";

/** Returns a fetch that these services answer. */
export function serving(routes: (router: ConnectRouter) => void): typeof fetch {
  const router = createConnectRouter();
  routes(router);
  const handlers = new Map(router.handlers.map((h) => [h.requestPath, createFetchHandler(h)]));
  return async (input, init) => {
    const request = new Request(input, init);
    init?.signal?.throwIfAborted();
    const handler = handlers.get(new URL(request.url).pathname);
    if (!handler) return new Response("", { status: 404 });
    const aborted = new Promise<never>((_, reject) => {
      request.signal.addEventListener("abort", () => reject(request.signal.reason), { once: true });
    });
    return Promise.race([handler(request), aborted]);
  };
}

export type Answer = MessageInitShape<typeof AuthorizeResponseSchema>;

/** Allows each call for the principal that its credential is. */
export const allowed = (req: AuthorizeRequest): Answer => ({
  allowed: true,
  reason: Reason.OK,
  principal: { userId: req.credential.value ?? "", username: "alice" },
});

/** Answers calls to authorize, alone or in a batch. */
export class Roles {
  /** How many calls each request carried. */
  readonly carried: number[] = [];
  readonly requests: AuthorizeRequest[] = [];
  readonly fetch: typeof fetch;
  answer: (req: AuthorizeRequest, context: HandlerContext) => Answer | Promise<Answer>;
  /** Refuses batches as a whole. */
  refuse: (() => void) | undefined;
  #next = latch();

  constructor(answer: typeof this.answer = allowed) {
    this.answer = answer;
    this.fetch = serving((router) =>
      router.service(RolesService, {
        authorize: async (req, context) => {
          this.#got([req]);
          return create(AuthorizeResponseSchema, await this.answer(req, context));
        },
        batchAuthorize: async (req, context) => {
          this.#got(req.requests);
          this.refuse?.();
          const responses: Answer[] = [];
          const failures: BatchFailure[] = [];
          await Promise.all(
            req.requests.map(async (r, index) => {
              try {
                responses[index] = await this.answer(r, context);
              } catch (e) {
                const { code, message, reason } = toError(e);
                responses[index] = {};
                failures.push(create(BatchFailureSchema, { index, code, message, reason: Reason[reason as keyof typeof Reason] ?? 0 }));
              }
            }),
          );
          return create(BatchAuthorizeResponseSchema, { responses, failures });
        },
      }),
    );
  }

  #got(requests: AuthorizeRequest[]): void {
    this.carried.push(requests.length);
    this.requests.push(...requests);
    this.#next.open();
    this.#next = latch();
  }

  /** Returns when so many requests have come. */
  async came(count: number): Promise<void> {
    while (this.carried.length < count) await this.#next.promise;
  }

  gate(options: Partial<TollgateOptions> = {}): Tollgate {
    return new Tollgate({
      url: "http://tollgate.test",
      apiKey: "tg_service",
      timeoutMs: 5000,
      log: () => {},
      fetch: this.fetch,
      ...options,
    });
  }
}

/** An error as Tollgate makes it. */
export function fault(code: Code, reason: string, retryAfterMs = 0): ConnectError {
  const details: ConstructorParameters<typeof ConnectError>[3] = [{ desc: ErrorInfoSchema, value: { reason, domain: "tollgate.dev" } }];
  if (retryAfterMs > 0) {
    const retryDelay = { seconds: BigInt(Math.floor(retryAfterMs / 1000)), nanos: (retryAfterMs % 1000) * 1e6 };
    details.push({ desc: RetryInfoSchema, value: { retryDelay } });
  }
  return new ConnectError(`it failed with ${codeName(code)}`, code, undefined, details);
}

/** A promise that a test resolves. */
export function latch<T = void>(): { promise: Promise<T>; open: (value: T) => void } {
  let open: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}
