import { Code, ConnectError } from "@connectrpc/connect";

/** Bytes of one message of a stream, such as a snapshot of what is revoked. */
const maxMessage = 32 << 20;

/**
 * Fails a stream at a message that is too large, before it is read. Each message is one
 * byte of flags, its length in four (big-endian), and itself.
 */
export function limitMessages(res: Response): Response {
  if (!res.body) {
    return res;
  }
  let seen = 0; // bytes of the flags and the length
  let length = 0;
  let left = 0; // bytes of the message
  const limited = res.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, out) {
        for (let at = 0; at < chunk.length; ) {
          if (left > 0) {
            const here = Math.min(left, chunk.length - at);
            at += here;
            left -= here;
            continue;
          }
          length = seen === 0 ? 0 : length * 256 + (chunk[at] ?? 0);
          at++;
          seen++;
          if (seen === 5) {
            if (length > maxMessage) {
              out.error(new ConnectError("a message of the stream has more than 32 MiB", Code.ResourceExhausted));
              return;
            }
            left = length;
            seen = 0;
          }
        }
        out.enqueue(chunk);
      },
    }),
  );
  return new Response(limited, { status: res.status, headers: res.headers });
}
