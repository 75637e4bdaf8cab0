/** Nothing is proven: the proof or checkpoint is not one, or not of this log. */
export class NotProvenError extends Error {
  override readonly name = "NotProvenError";
}

export function fail(what: string): never {
  throw new NotProvenError(what);
}
