import { SvelteMap } from "svelte/reactivity";
import { auth } from "./api/clients";
import { session } from "./api/session.svelte";

/** Users' names by id, read once each while they are shown. */
class Names {
  readonly #known = new SvelteMap<string, string>();
  readonly #asked = new Set<string>();

  /** The name, or the id until it is known or when the caller may not read users. */
  of(id: string): string {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    if (!this.#asked.has(id) && this.#asked.size < 500 && isID(id) && session.can("tollgate:users:read")) {
      this.#asked.add(id);
      auth.getUser({ id }).then(
        ({ user }) => user && this.#known.set(id, user.username),
        () => undefined, // deleted since: the id is all there is
      );
    }
    return id;
  }

  learn(id: string, name: string): void {
    this.#asked.add(id);
    if (this.#known.get(id) !== name) this.#known.set(id, name);
  }
}

export const names = new Names();

const isID = (text: string) => /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(text);
