import { untrack } from "svelte";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { GetOverviewResponse, OverviewBucket } from "@tollgate/overview_pb.js";
import { overview } from "@/lib/api/clients";
import { problem, type Problem } from "@/lib/api/problem";
import { delay } from "@/lib/api/stream";

const everyMs = 2000;
const keepMs = 15 * 60_000;
/** Behind a load balancer other instances answer, too: they are shown when the first is silent. */
const patienceMs = 10_000;

/** What the server's instance has been doing, asked for again and again while the page is seen. */
export class Live {
  latest = $state.raw<GetOverviewResponse>();
  buckets = $state.raw<readonly OverviewBucket[]>([]);
  problem = $state.raw<Problem>();
  /** The server's clock less this browser's, in milliseconds. */
  skew = $state(0);

  constructor() {
    $effect(() => {
      const abort = new AbortController();
      // What a read looks at must not begin it anew when it changes.
      void untrack(() => this.#run(abort.signal));
      return () => abort.abort();
    });
  }

  #heard = 0;

  reload = (): void => {
    void this.#read(new AbortController().signal);
  };

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (!document.hidden) await this.#read(signal);
      await delay(this.problem?.retryAfter ?? (this.problem ? 5000 : everyMs), signal);
      if (this.problem?.denied) return;
    }
  }

  async #read(signal: AbortSignal): Promise<void> {
    try {
      const since: Timestamp | undefined = this.buckets.at(-1)?.startsAt;
      const answer = await overview.getOverview({ since }, { signal, timeoutMs: 5000 });
      if (this.latest && answer.instance?.id !== this.latest.instance?.id) {
        if (Date.now() - this.#heard < patienceMs) return;
        // It knows nothing of what the other one has been doing.
        this.buckets = [];
        this.latest = undefined;
        return await this.#read(signal);
      }
      const from = answer.buckets[0]?.startsAt;
      const before = from ? this.buckets.filter((b) => at(b) < timestampMs(from)) : this.buckets;
      const now = answer.time ? timestampMs(answer.time) : Date.now();
      this.buckets = [...before, ...answer.buckets].filter((b) => at(b) >= now - keepMs);
      this.skew = now - Date.now();
      this.latest = answer;
      this.#heard = Date.now();
      this.problem = undefined;
    } catch (cause) {
      if (!signal.aborted) this.problem = problem(cause);
    }
  }
}

export const at = (bucket: OverviewBucket): number => (bucket.startsAt ? timestampMs(bucket.startsAt) : 0);
