const base = "/console";

/** Where the page is: the path below /console, and the query. */
class Router {
  path = $state(pathOf(location));
  query = $state.raw(new URLSearchParams(location.search));

  constructor() {
    addEventListener("popstate", () => this.#read());
    // One listener for all links of the page, so that a link is a plain <a>.
    addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest("a") : null;
      if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      if (link.hash || link.origin !== location.origin || link.target || !link.pathname.startsWith(`${base}/`)) return;
      event.preventDefault();
      this.#go(link.pathname + link.search, false);
    });
  }

  go(path: string, options: { replace?: boolean } = {}): void {
    this.#go(base + path, options.replace ?? false);
  }

  /** Changes the query in place, so that a reload and a shared link show the same. */
  set(values: Record<string, string | undefined>, options: { push?: boolean } = {}): void {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(values)) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    const search = query.toString();
    const url = location.pathname + (search ? `?${search}` : "");
    if (url !== location.pathname + location.search) this.#go(url, !options.push);
  }

  #go(url: string, replace: boolean): void {
    const moved = new URL(url, location.origin).pathname !== location.pathname;
    history[replace ? "replaceState" : "pushState"](null, "", url);
    this.#read();
    if (moved) scrollTo(0, 0);
  }

  #read(): void {
    this.path = pathOf(location);
    this.query = new URLSearchParams(location.search);
  }
}

function pathOf({ pathname }: Location): string {
  return pathname.slice(base.length).replace(/\/+$/, "") || "/";
}

export const router = new Router();

/** The address of a page of the console; parts are escaped, so data cannot leave it. */
export function href(parts: readonly string[], query: Record<string, string> = {}): string {
  const search = new URLSearchParams(query).toString();
  return `${base}/${parts.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

/** The parameters of a path, or undefined when the template is for others: "/users/:id". */
export function match(template: string, path: string): Record<string, string> | undefined {
  const want = template.split("/");
  const have = path.split("/");
  if (want.length !== have.length) return undefined;
  const params: Record<string, string> = {};
  for (const [i, segment] of want.entries()) {
    const value = have[i] ?? "";
    if (segment.startsWith(":")) {
      try {
        params[segment.slice(1)] = decodeURIComponent(value);
      } catch {
        return undefined;
      }
    } else if (segment !== value) return undefined;
  }
  return params;
}
