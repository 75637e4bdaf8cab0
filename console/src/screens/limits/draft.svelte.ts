import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Algorithm, Calendar, type Limit, Mode, Outage, Subject } from "@tollgate/limits_pb.js";

/** A limit while it is edited. */
export class Draft {
  name = $state("");
  description = $state("");
  subject = $state(Subject.USER);
  contextKey = $state("");
  permission = $state("");
  algorithm = $state(Algorithm.GCRA);
  rate = $state("");
  /** Milliseconds. */
  period = $state(60_000);
  burst = $state("");
  calendar = $state(Calendar.MONTH);
  timeZone = $state("UTC");
  mode = $state(Mode.SHADOW);
  outage = $state(Outage.LOCAL);
  lease = $state(false);
  /** Milliseconds. */
  leaseTime = $state(100);

  readonly isCalendar = $derived(this.algorithm === Algorithm.CALENDAR);
  readonly isBackoff = $derived(this.algorithm === Algorithm.BACKOFF);
  readonly hasBurst = $derived(this.algorithm === Algorithm.GCRA || this.isBackoff);
  readonly mayLease = $derived(this.algorithm === Algorithm.GCRA || this.algorithm === Algorithm.FIXED_WINDOW);

  constructor(limit?: Limit) {
    if (!limit) return;
    this.name = limit.name;
    this.description = limit.description;
    this.subject = limit.subject;
    this.contextKey = limit.contextKey;
    this.permission = limit.permission;
    this.algorithm = limit.algorithm || Algorithm.GCRA;
    this.rate = String(limit.rate);
    if (limit.period) this.period = durationMs(limit.period);
    this.burst = limit.burst > 0n && limit.burst !== limit.rate ? String(limit.burst) : "";
    if (limit.calendar) this.calendar = limit.calendar;
    this.timeZone = limit.timeZone || "UTC";
    this.mode = limit.mode || Mode.ENFORCE;
    this.outage = limit.outage || Outage.LOCAL;
    this.lease = limit.lease;
    if (limit.leaseTime) this.leaseTime = durationMs(limit.leaseTime);
  }

  /** As many at once as the limit would let pass. */
  get most(): bigint {
    return BigInt((this.hasBurst && this.burst) || this.rate || "0");
  }

  #shape() {
    const lease = this.lease && this.mayLease;
    return {
      name: this.name,
      description: this.description,
      permission: this.permission || "*",
      rate: BigInt(this.isBackoff ? this.burst || this.rate || "1" : this.rate),
      burst: BigInt(this.hasBurst ? this.burst || "0" : "0"),
      algorithm: this.algorithm,
      mode: this.mode,
      outage: this.outage,
      lease,
      ...(lease ? { leaseTime: durationFromMs(this.leaseTime) } : {}),
      ...(this.isCalendar ? { calendar: this.calendar, timeZone: this.timeZone || "UTC" } : { period: durationFromMs(this.period) }),
    };
  }

  /** The request that makes this limit. */
  create() {
    return { ...this.#shape(), subject: this.subject, ...(this.subject === Subject.CUSTOM ? { contextKey: this.contextKey } : {}) };
  }

  /** The request that makes the limit this. */
  update() {
    return this.#shape();
  }
}
