import { timestampNow } from "@bufbuild/protobuf/wkt";
import type { LimitUse } from "@tollgate/overview_pb.js";
import { overview } from "@/lib/api/clients";
import { problem } from "@/lib/api/problem";
import { session } from "@/lib/api/session.svelte";

const everyMs = 2500;

/** The keys with a fifth or less of their limit left, at most 20, of the instance that answers. */
export async function readUses(signal?: AbortSignal): Promise<LimitUse[]> {
  return (await overview.getOverview({ since: timestampNow() }, { signal })).limits;
}

/** Kept up to date while a component shows them. */
export class Uses {
  list = $state.raw<readonly LimitUse[]>([]);
  /** The caller may not see them. */
  denied = $state(!session.can("tollgate:overview:read"));

  constructor() {
    $effect(() => {
      if (this.denied) return;
      const abort = new AbortController();
      let timer: ReturnType<typeof setTimeout>;
      const read = async () => {
        try {
          if (!document.hidden) this.list = await readUses(abort.signal);
        } catch (cause) {
          if (abort.signal.aborted) return;
          if (problem(cause).denied) {
            this.denied = true;
            return;
          }
        }
        if (!abort.signal.aborted) timer = setTimeout(() => void read(), everyMs);
      };
      void read();
      return () => {
        abort.abort();
        clearTimeout(timer);
      };
    });
  }

  of(limit: string): LimitUse[] {
    return this.list.filter((use) => use.limit === limit);
  }
}
