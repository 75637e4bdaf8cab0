export interface Toast {
  id: number;
  text: string;
  tone: "ok" | "bad";
}

/** Short messages about what was done, read aloud and gone after a while. */
class Toasts {
  list = $state.raw<readonly Toast[]>([]);
  #last = 0;

  add(text: string, tone: Toast["tone"] = "ok"): void {
    const id = ++this.#last;
    this.list = [...this.list.slice(-3), { id, text, tone }];
    setTimeout(() => this.remove(id), tone === "bad" ? 10_000 : 5000);
  }

  remove(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

export const toasts = new Toasts();
