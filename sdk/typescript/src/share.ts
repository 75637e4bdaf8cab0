import type { AuthorizeRequest, AuthorizeResponse } from "./gen/tollgate/v1/roles_pb.js";
import { Generations } from "./generations.js";

/** How large in bytes a call that shares a request may be: it bounds what calls that wait hold. */
const maxShared = 16 << 10;

const permission = /^(?!tollgate:)(?=.{1,128}$)(?:[a-z0-9._-]+:){0,7}[a-z0-9._-]+$/;
const uuid = /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i;

/**
 * Says whether a call may share a request. One that Tollgate refuses as invalid would
 * take the others with it, and one that waits for a revision would have them wait:
 * these go by themselves. What it accepts is a part of what the contract does.
 */
export function shareable(r: AuthorizeRequest, size: number): boolean {
  return (
    size <= maxShared &&
    r.minRevision === 0n &&
    r.cost <= 1_000_000n &&
    (r.credential.case !== "userId" || uuid.test(r.credential.value)) &&
    namesOneRule(r) &&
    isContext(r.context) &&
    [r.resourceAttributes, r.actionProperties].every((a) => !a || isSmall(a))
  );
}

/** Checks permission, anyOf, allOf, authenticated and selfOnly. */
function namesOneRule(r: AuthorizeRequest): boolean {
  const lists = [...r.anyOf, ...r.allOf];
  const anybody = r.authenticated || r.selfOnly;
  if (lists.length === 0) {
    return permission.test(r.permission) || (anybody && r.permission === "");
  }
  return (
    !anybody &&
    r.permission === "" &&
    (r.anyOf.length === 0 || r.allOf.length === 0) &&
    lists.length <= 16 &&
    new Set(lists).size === lists.length &&
    lists.every((p) => permission.test(p))
  );
}

/** Lengths are in UTF-16, of which a text has as many as characters at least. */
function isContext(context: { [key: string]: string }): boolean {
  const entries = Object.entries(context);
  return (
    entries.length <= 32 &&
    entries.every(([key, value]) => key !== "" && key.length <= 64 && value.length <= 256 && !/\p{Surrogate}/u.test(key + value))
  );
}

function isSmall(attributes: NonNullable<AuthorizeRequest["resourceAttributes"]>): boolean {
  return new TextEncoder().encode(JSON.stringify(attributes)).length <= 8 << 10;
}

/**
 * The callers and permissions of calls that were refused the last time. A refusal is
 * answered when it is on record, for which the calls beside it would wait: the next
 * call of the same kind goes by itself.
 */
export class RefusedCalls {
  readonly #calls = new Generations<string, true>(20_000);

  has(r: AuthorizeRequest): boolean {
    return this.#calls.size > 0 && this.#calls.has(kindOf(r));
  }

  learn(r: AuthorizeRequest, res: AuthorizeResponse): void {
    if (!res.allowed) {
      this.#calls.set(kindOf(r), true);
    } else if (this.#calls.size > 0) {
      this.#calls.delete(kindOf(r));
    }
  }
}

const kindOf = (r: AuthorizeRequest): string => `${r.credential.value ?? ""}\0${r.permission}`;
