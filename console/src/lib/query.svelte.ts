import { problem, type Problem } from "./api/problem";

/** What a read of the server gave: shown while it is read again. */
export class Query<T> {
  data = $state.raw<T>();
  problem = $state.raw<Problem>();
  busy = $state(true);
  #again = $state(0);

  /** Call in a component's script: read runs now, and when state that it reads changes. */
  constructor(read: (signal: AbortSignal) => Promise<T>) {
    $effect(() => {
      void this.#again;
      const abort = new AbortController();
      this.busy = true;
      read(abort.signal).then(
        (data) => {
          if (abort.signal.aborted) return;
          this.data = data;
          this.problem = undefined;
          this.busy = false;
        },
        (cause: unknown) => {
          if (abort.signal.aborted) return;
          this.problem = problem(cause);
          this.busy = false;
        },
      );
      return () => abort.abort();
    });
  }

  reload = (): void => {
    this.#again++;
  };
}

export interface Page<T> {
  items: T[];
  next: string;
}

/** A list that is read page by page. */
export class Pages<T> {
  items = $state.raw<T[]>([]);
  problem = $state.raw<Problem>();
  busy = $state(true);
  next = $state("");
  #again = $state(0);
  readonly #read: (pageToken: string, signal: AbortSignal) => Promise<Page<T>>;
  #abort = new AbortController();

  /** Call in a component's script: starts over when state that read reads changes. */
  constructor(read: (pageToken: string, signal: AbortSignal) => Promise<Page<T>>) {
    this.#read = read;
    $effect(() => {
      void this.#again;
      this.#abort = new AbortController();
      this.#load("", this.#abort.signal);
      const abort = this.#abort;
      return () => abort.abort();
    });
  }

  reload = (): void => {
    this.#again++;
  };

  more = (): void => {
    if (this.next && !this.busy) this.#load(this.next, this.#abort.signal);
  };

  #load(pageToken: string, signal: AbortSignal): void {
    this.busy = true;
    this.#read(pageToken, signal).then(
      ({ items, next }) => {
        if (signal.aborted) return;
        this.items = pageToken ? [...this.items, ...items] : items;
        this.next = next;
        this.problem = undefined;
        this.busy = false;
      },
      (cause: unknown) => {
        if (signal.aborted) return;
        this.problem = problem(cause);
        this.busy = false;
      },
    );
  }
}
