import type { Tollgate } from "../client.js";
import { Generations } from "../generations.js";
import { ipText } from "../text.js";
import type { AuthorizeRequest, Decision, Reason } from "../types.js";

/**
 * Bad credentials that are refused in this process are reported to Tollgate, which counts
 * and records them, at a bounded rate for each address and in all: so many at once, and
 * then one in so many ms.
 */
const perAddress = { burst: 10, every: 1000 };
const inAll = { burst: 100, every: 20 };
/** Addresses that have a count of their own. */
const maxAddresses = 10_000;
/** In ms without reports about an address over a limit. */
const maxHeldOff = 60_000;

/** Refills over time (GCRA). */
class Allowance {
  #whole = 0;
  heldOff = 0; // over a limit until then

  take(now: number, { burst, every }: { burst: number; every: number }): boolean {
    const whole = Math.max(now, this.#whole);
    if (whole - now > (burst - 1) * every) {
      return false;
    }
    this.#whole = whole + every;
    return true;
  }
}

/** Reports bad credentials to Tollgate. */
export class Reports {
  readonly #gate: Tollgate;
  readonly #addresses = new Generations<string, Allowance>(maxAddresses);
  readonly #all = new Allowance();
  #failing = false; // the latest report failed

  constructor(gate: Tollgate) {
    this.#gate = gate;
  }

  /**
   * Sends a credential that was refused here to Tollgate, and returns the decision to
   * answer with: the refusal, or that the caller is over a limit. It never allows,
   * whatever Tollgate answers.
   */
  async report(request: AuthorizeRequest, reason: Reason): Promise<Decision> {
    const address = this.#find(request.ip ?? "");
    const now = performance.now();
    if (address.heldOff > now) {
      return { ...refusal("LIMITED"), retryAfterMs: Math.ceil(address.heldOff - now) };
    }
    if (!address.take(now, perAddress) || !this.#all.take(now, inAll)) {
      return refusal(reason);
    }
    try {
      // Without the caller's signal: one who hangs up is counted as well.
      const d = await this.#gate.authorize({ ...request, authenticated: true }, { onUnavailable: "deny" });
      this.#failing = false;
      if (d.reason !== "LIMITED" || d.allowed) {
        return refusal(reason);
      }
      address.heldOff = now + Math.min(d.retryAfterMs ?? 0, maxHeldOff);
      return d;
    } catch (e) {
      if (!this.#failing) {
        this.#failing = true;
        this.#gate.internals.log("tollgate: bad credentials are refused, but Tollgate does not count and record them", e);
      }
      return refusal(reason);
    }
  }

  #find(ip: string): Allowance {
    const name = prefixOf(ipText(ip));
    const known = this.#addresses.get(name) ?? new Allowance();
    this.#addresses.set(name, known);
    return known;
  }
}

export const refusal = (reason: Reason): Decision => ({
  allowed: false,
  reason,
  principal: undefined,
  retryAfterMs: undefined,
  limits: [],
  revision: 0n,
  grant: "",
});

/** Returns the first 64 bits of an IPv6 address, of which a host has 2^64; IPv4 addresses whole. */
function prefixOf(ip: string): string {
  if (!ip.includes(":")) {
    return ip;
  }
  const [before = "", after] = ip.split("::");
  const groups = before.split(":").filter(Boolean);
  const rest = (after ?? "").split(":").filter(Boolean);
  const zeros = after === undefined ? 0 : 8 - groups.length - rest.length;
  return [...groups, ...Array(Math.max(0, zeros)).fill("0"), ...rest].slice(0, 4).join(":");
}
