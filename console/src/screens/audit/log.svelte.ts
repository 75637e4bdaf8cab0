import type { Event } from "@tollgate/audit_pb.js";
import { audit } from "@/lib/api/clients";
import { problem, type Problem } from "@/lib/api/problem";
import { follow, type Status } from "@/lib/api/stream";
import { isOver, toRequest, toWatch, type Filter } from "./filter";

const pageSize = 50;
/** More live events than this push the oldest ones out. */
const keep = 500;
/** Events that come together are shown together. */
const gatherMs = 100;

/** The log as it is shown: a page of the past, and above it what comes in. */
export class Log {
  events = $state.raw<readonly Event[]>([]);
  /** What came in while it was paused. */
  held = $state.raw<readonly Event[]>([]);
  paused = $state(false);
  busy = $state(true);
  problem = $state.raw<Problem>();
  status = $state<Status>("connecting");
  next = $state("");
  /** Ids of events that came in by the stream, to be marked. */
  readonly fresh = new Set<string>();

  #again = $state(0);
  #filter: Filter | undefined;
  #signal = new AbortController().signal;
  #gathered: Event[] = [];

  constructor(filter: () => Filter) {
    $effect(() => {
      void this.#again;
      const abort = new AbortController();
      this.#start(filter(), abort.signal);
      return () => abort.abort();
    });
  }

  get items() {
    return this.events;
  }

  reload = (): void => {
    this.#again++;
  };

  more = (): void => {
    if (this.next && !this.busy) void this.#page(this.next);
  };

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.#show(this.held);
    this.held = [];
  }

  #start(filter: Filter, signal: AbortSignal): void {
    this.#filter = filter;
    this.#signal = signal;
    this.#gathered = [];
    this.events = [];
    this.held = [];
    this.fresh.clear();
    void this.#page("");
    if (isOver(filter)) return;
    let last = "";
    void follow((s) => audit.watchEvents({ ...toWatch(filter), lastEventId: last }, { signal: s, timeoutMs: 0 }), signal, {
      status: (status, p) => {
        this.status = status;
        if (p?.reason.startsWith("LAST_EVENT")) this.reload(); // too much was missed
        else if (p?.denied) this.problem = p;
      },
      message: ({ event }) => {
        if (!event) return;
        last = event.id;
        this.#gather(event, signal);
      },
    });
  }

  #gather(event: Event, signal: AbortSignal): void {
    if (this.#gathered.push(event) > 1) return;
    setTimeout(() => {
      if (signal.aborted) return;
      const events = this.#gathered.reverse();
      this.#gathered = [];
      for (const e of events) this.fresh.add(e.id);
      if (this.paused) this.held = [...events, ...this.held].slice(0, keep);
      else this.#show(events);
    }, gatherMs);
  }

  #show(events: readonly Event[]): void {
    if (events.length === 0) return;
    const known = new Set(this.events.map((e) => e.id));
    this.events = [...events.filter((e) => !known.has(e.id)), ...this.events].slice(0, Math.max(keep, this.events.length));
  }

  async #page(pageToken: string): Promise<void> {
    if (!this.#filter) return;
    const signal = this.#signal;
    this.busy = true;
    try {
      const request = { ...toRequest(this.#filter), pageSize };
      let answer = await audit.listEvents({ ...request, pageToken }, { signal });
      // A page of what is rare may be empty.
      while (answer.events.length === 0 && answer.nextPageToken) answer = await audit.listEvents({ ...request, pageToken: answer.nextPageToken }, { signal });
      if (signal.aborted) return;
      const known = new Set(this.events.map((e) => e.id));
      this.events = [...this.events, ...answer.events.filter((e) => !known.has(e.id))];
      this.next = answer.nextPageToken;
      this.problem = undefined;
    } catch (cause) {
      if (!signal.aborted) this.problem = problem(cause);
    } finally {
      if (!signal.aborted) this.busy = false;
    }
  }
}
