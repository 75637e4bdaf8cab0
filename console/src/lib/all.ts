import type { Page } from "./query.svelte";

export interface All<T> {
  items: T[];
  /** There are more than were read. */
  more: boolean;
}

/** Reads page after page, up to about so many items: for counting before something is done. */
export async function all<T>(read: (pageToken: string) => Promise<Page<T>>, most = 1000): Promise<All<T>> {
  const items: T[] = [];
  let next = "";
  do {
    const page = await read(next);
    items.push(...page.items);
    next = page.next;
  } while (next && items.length < most);
  return { items, more: next !== "" };
}

/** "3 sessions", "more than 1,000 sessions". */
export function countedAll({ items, more }: All<unknown>, text: (n: number) => string): string {
  return more ? `more than ${text(items.length)}` : text(items.length);
}
