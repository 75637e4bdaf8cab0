import { Code, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { problem } from "./problem";
import { session } from "./session.svelte";

/** A read waits this long for a limit by itself; longer waits are shown. */
const patienceMs = 3000;

/**
 * Sends the access token, and turns every error into a Problem. An expired token is
 * refreshed once, a read over a limit waits once; a session that is over ends here.
 */
const credentials: Interceptor = (next) => async (request) => {
  const send = async () => {
    request.header.set("Authorization", `Bearer ${await session.token()}`);
    return next(request);
  };
  try {
    return await send();
  } catch (cause) {
    const p = problem(cause);
    if (request.stream) throw p;
    if (p.reason === "CREDENTIAL_EXPIRED") {
      await session.refresh();
      return send().catch((again: unknown) => {
        throw problem(again);
      });
    }
    if (p.code === Code.Unauthenticated && !p.stepUp) session.end("ended");
    const read = request.method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
    if (read && p.reason === "LIMITED" && (p.retryAfter ?? Infinity) <= patienceMs) {
      await new Promise((resolve) => setTimeout(resolve, p.retryAfter));
      return send().catch((again: unknown) => {
        throw problem(again);
      });
    }
    throw p;
  }
};

export const transport = createConnectTransport({
  baseUrl: location.origin,
  interceptors: [credentials],
  defaultTimeoutMs: 15_000,
  // A session's cookie is for the session endpoints only.
  fetch: (input, init) => fetch(input, { ...init, credentials: "omit", cache: "no-store", redirect: "error" }),
});
