// Starts the real binary.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const password = "correct horse battery";

/** Returns a port that was free: the issuer must be known before the server listens. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") {
    throw new Error("no port");
  }
  return address.port;
}

export interface Server extends Admin {
  stop(): Promise<void>;
}

/** Starts a server with an empty database. */
export async function start(variables: Record<string, string> = {}): Promise<Server> {
  const binary = process.env["TOLLGATE_BINARY"];
  if (!binary) {
    throw new Error("TOLLGATE_BINARY is not set; the global setup sets it");
  }
  const dir = await mkdtemp(join(tmpdir(), "tollgate-sdk-"));
  const url = `http://127.0.0.1:${await freePort()}`;
  const child = spawn(binary, ["--listen", url.slice(7), "--metrics-listen=", "--bcrypt-cost", "4"], {
    cwd: dir,
    env: { TOLLGATE_ISSUER: url, TOLLGATE_ADMIN_PASSWORD: password, ...variables },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  let log = "";
  child.stderr.on("data", (text) => {
    log += String(text);
  });
  await new Promise<void>((ready, failed) => {
    child.stdout.on("data", (text) => {
      if (String(text).includes(url)) ready();
    });
    child.once("exit", () => failed(new Error(`tollgate exited: ${log}`)));
  });
  const admin = await Admin.signIn(url);
  return Object.assign(admin, {
    async stop() {
      child.kill("SIGKILL"); // nobody drains
      await exited;
      await rm(dir, { recursive: true, force: true });
    },
  });
}

export interface User {
  readonly id: string;
  readonly name: string;
}

export interface Session {
  readonly accessToken: string;
  readonly sessionId: string;
  readonly refreshToken: string;
}

/** Calls the REST API as the administrator. */
export class Admin {
  readonly url: string;
  readonly token: string;

  constructor(url: string, token: string) {
    this.url = url;
    this.token = token;
  }

  static async signIn(url: string): Promise<Admin> {
    return new Admin(url, (await new Admin(url, "").login("admin")).accessToken);
  }

  /** Makes a call that must succeed. */
  // biome-ignore lint/suspicious/noExplicitAny: the shape is the API's
  async call(method: string, path: string, body?: unknown): Promise<any> {
    const headers = { "Content-Type": "application/json", ...(this.token && { Authorization: `Bearer ${this.token}` }) };
    const res = await fetch(this.url + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const answer = await res.json();
    if (!res.ok) {
      throw new Error(`${method} ${path}: ${res.status} ${JSON.stringify(answer)}`);
    }
    return answer;
  }

  async login(username: string): Promise<Session> {
    return this.call("POST", "/v1/auth/login", { username, password });
  }

  /** Creates a person with a role of these permissions. */
  async person(name: string, ...permissions: string[]): Promise<User> {
    const { user } = await this.call("POST", "/v1/users", { username: name, password });
    await this.grant(user.id, `${name}-role`, permissions);
    return { id: user.id, name };
  }

  /** Creates a service account with a key: with the built-in role "service" and these permissions. */
  async service(name: string, ...permissions: string[]): Promise<{ id: string; key: string; keyId: string }> {
    const { user } = await this.call("POST", "/v1/users", { username: name, kind: "USER_KIND_SERVICE" });
    await this.call("PUT", `/v1/roles/service/members/${user.id}`, {});
    await this.grant(user.id, `${name}-role`, permissions);
    const { secret, apiKey } = await this.call("POST", "/v1/api-keys", { userId: user.id, name });
    return { id: user.id, key: secret, keyId: apiKey.id };
  }

  async grant(userId: string, role: string, permissions: string[]): Promise<void> {
    if (permissions.length > 0) {
      await this.call("POST", "/v1/roles", { name: role, permissions });
      await this.call("PUT", `/v1/roles/${role}/members/${userId}`, {});
    }
  }

  /** How many events of an action the audit log has. */
  async events(action: string): Promise<{ reason?: string; resource?: string; requestId?: string; ip?: string }[]> {
    return (await this.call("GET", `/v1/audit/events?action=${action}&page_size=250`)).events;
  }
}
