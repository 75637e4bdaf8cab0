import type { CheckLimitResponse } from "@tollgate/limits_pb.js";
import { limits } from "@/lib/api/clients";
import { problem, type Problem } from "@/lib/api/problem";

const everyMs = 1000;

/** Where a key stands with a limit, looked at every second without counting. */
export class Peek {
  answer = $state.raw<CheckLimitResponse>();
  problem = $state.raw<Problem>();
  #again = $state(0);

  /** where: undefined while no key is chosen. */
  constructor(where: () => { limit: string; key: string } | undefined) {
    $effect(() => {
      void this.#again;
      const at = where();
      this.answer = undefined;
      this.problem = undefined;
      if (!at) return;
      const abort = new AbortController();
      let timer: ReturnType<typeof setTimeout>;
      const look = async () => {
        let wait = everyMs;
        try {
          if (!document.hidden) {
            this.answer = await limits.checkLimit({ ...at, peek: true }, { signal: abort.signal });
            this.problem = undefined;
          }
        } catch (cause) {
          if (abort.signal.aborted) return;
          this.problem = problem(cause);
          if (this.problem.denied || this.problem.violations.size > 0) return;
          wait = Math.max(4 * everyMs, this.problem.retryAfter ?? 0);
        }
        if (!abort.signal.aborted) timer = setTimeout(() => void look(), wait);
      };
      void look();
      return () => {
        abort.abort();
        clearTimeout(timer);
      };
    });
  }

  again = (): void => {
    this.#again++;
  };
}
