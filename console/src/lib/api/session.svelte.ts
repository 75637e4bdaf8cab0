import { Code } from "@connectrpc/connect";
import type { Principal } from "@tollgate/auth_pb.js";
import { covers } from "../permission";
import { problem } from "./problem";
import { post, spend, type Tokens } from "./refresh";

/** starting: not known yet. password: signed in, and must first choose a new password. */
export type State = "starting" | "out" | "in" | "password";

/** Why the sign-in page is shown, in the user's words; "" for a first visit. */
export type Notice = "" | "ended" | "step-up" | "left";

interface Live extends Tokens {
  /** When the access token ends, by this browser's clock. */
  until: number;
}

type Message = { kind: "tokens"; tokens: Live } | { kind: "out"; notice: Notice };

const hintKey = "tollgate.signed-in";
/** Refresh this long before the end, so that no call meets an expired token. */
const marginMs = 20_000;

class Session {
  state = $state<State>("starting");
  notice = $state<Notice>("");
  /** What the server says beside the notice, such as what a call takes. */
  detail = $state("");
  principal = $state<Principal>();
  permissions = $state<readonly string[]>([]);

  #live: Live | undefined;
  #refreshing: Promise<Live> | undefined;
  readonly #tabs = new BroadcastChannel("tollgate-session");

  constructor() {
    this.#tabs.onmessage = ({ data }: MessageEvent<Message>) => {
      if (data.kind === "tokens") this.#keep(data.tokens);
      else this.#clear(data.notice);
    };
  }

  /** The session that this browser holds, if it does. */
  get id() {
    return this.#live?.sessionId ?? "";
  }

  get userId() {
    return this.#live?.userId ?? this.principal?.userId ?? "";
  }

  /** Whether the user's roles grant a permission: for showing; the server decides. */
  can(permission: string): boolean {
    return this.permissions.some((pattern) => covers(pattern, permission));
  }

  /** Resumes the session of the cookie, once, at the page's start. */
  async resume(): Promise<void> {
    if (!localStorage.getItem(hintKey)) {
      this.state = "out";
      return;
    }
    for (let wait = 500; this.state === "starting"; wait = Math.min(wait * 2, 8000)) {
      try {
        await this.refresh();
        return;
      } catch (cause) {
        if (problem(cause).code === Code.Unauthenticated) return;
        this.detail = problem(cause).message;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  async signIn(username: string, password: string, secondFactor: string): Promise<void> {
    const tokens = await post("login", { username, password, secondFactor });
    const live = this.#keep({ ...tokens, until: Date.now() + tokens.expiresIn * 1000 });
    localStorage.setItem(hintKey, "1");
    this.#tabs.postMessage({ kind: "tokens", tokens: live } satisfies Message);
  }

  /** Signs out; the browser forgets the session even when the server cannot be reached. */
  async signOut(): Promise<void> {
    await post("logout").catch(() => undefined);
    this.end("left");
  }

  /** An access token that is good for a while; refreshes when there is none. */
  async token(): Promise<string> {
    const live = this.#live;
    if (live && live.until - marginMs > Date.now()) return live.accessToken;
    return (await this.refresh()).accessToken;
  }

  /** A new access token, whatever the one at hand is. Callers at the same time share it. */
  refresh(): Promise<Live> {
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async #refresh(): Promise<Live> {
    const before = this.#live;
    try {
      const tokens = await spend(() => (this.#live === before ? undefined : this.#live));
      if (tokens === this.#live) return this.#live;
      const live = this.#keep({ ...before, ...tokens, until: Date.now() + tokens.expiresIn * 1000 });
      this.#tabs.postMessage({ kind: "tokens", tokens: live } satisfies Message);
      return live;
    } catch (cause) {
      const p = problem(cause);
      if (p.code === Code.Unauthenticated || p.code === Code.PermissionDenied) this.end(before ? "ended" : "");
      throw p;
    }
  }

  /** Forgets the session in every tab of this browser. */
  end(notice: Notice, detail = ""): void {
    this.#clear(notice);
    this.detail = detail;
    this.#tabs.postMessage({ kind: "out", notice } satisfies Message);
  }

  #keep(live: Live): Live {
    if (live.sessionId !== this.#live?.sessionId) this.principal = undefined;
    this.#live = live;
    this.notice = "";
    this.detail = "";
    this.state = live.passwordChangeRequired ? "password" : "in";
    return live;
  }

  #clear(notice: Notice): void {
    localStorage.removeItem(hintKey);
    this.#live = undefined;
    this.principal = undefined;
    this.permissions = [];
    this.detail = "";
    this.notice = notice;
    this.state = "out";
  }
}

export const session = new Session();
