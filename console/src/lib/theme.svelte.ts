export type Theme = "system" | "light" | "dark";

const key = "tollgate.theme";
const themes: readonly Theme[] = ["system", "light", "dark"];

/** The theme that the user chose; the style sheet reads it from the root element. */
class Choice {
  current = $state<Theme>(themes.find((t) => t === localStorage.getItem(key)) ?? "system");

  constructor() {
    this.#show();
  }

  set(theme: Theme): void {
    this.current = theme;
    localStorage.setItem(key, theme);
    this.#show();
  }

  #show(): void {
    document.documentElement.dataset.theme = this.current;
  }
}

export const theme = new Choice();
