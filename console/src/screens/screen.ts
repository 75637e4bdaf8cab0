import type { Component } from "svelte";
import type { LucideIcon } from "@lucide/svelte";

/** What a page of a screen gets: the parameters of its path. */
export interface PageProps {
  params: Record<string, string>;
}

type Load = () => Promise<{ default: Component<PageProps> | Component }>;

/** One entry of the navigation, and the pages below it. */
export interface Screen {
  name: string;
  title: string;
  icon: LucideIcon;
  /** Who lacks it does not see the entry; the server decides about the page. */
  needs: string;
  group: "Watch" | "Access" | "Server";
  /** Path templates, as in "/users/:id", and what to show there; the first is the entry's. */
  pages: Record<string, Load>;
}
