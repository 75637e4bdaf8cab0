import { tick } from "svelte";
import { problem, type Problem } from "./api/problem";

/** A form's state while it is sent: what is wrong, in all and field by field. */
export class Form {
  busy = $state(false);
  problem = $state.raw<Problem>();
  readonly #send: () => Promise<void>;

  constructor(send: () => Promise<void>) {
    this.#send = send;
  }

  submit = async (event?: Event): Promise<void> => {
    event?.preventDefault();
    const box = event?.currentTarget;
    if (this.busy) return;
    this.busy = true;
    this.problem = undefined;
    try {
      await this.#send();
    } catch (cause) {
      this.problem = problem(cause);
      await tick();
      // To the first field that is refused, which may be out of sight.
      if (box instanceof HTMLFormElement) box.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
    } finally {
      this.busy = false;
    }
  };

  /**
   * What the server says about a field, by its name in JSON, or about what is in it.
   * reasons are those that are about this field without saying so: "USER_EXISTS".
   */
  error(field: string, ...reasons: string[]): string {
    if (this.problem && reasons.includes(this.problem.reason)) return this.problem.message;
    for (const [at, message] of this.problem?.violations ?? []) {
      if (at === field || at.startsWith(`${field}.`)) return message;
      if (at.startsWith(`${field}[`)) return `No. ${Number.parseInt(at.slice(field.length + 1)) + 1}: ${message}`;
    }
    return "";
  }

  reset(): void {
    this.problem = undefined;
  }
}
