// A fresh server: the real program, at a port of its own, with SQLite in a directory that
// goes away with it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { cleanup } from "./cleanup.js";

const binary = process.env.TOLLGATE_BINARY || fileURLToPath(new URL("../../bin/tollgate", import.meta.url));

/** How long a server may take to start, in milliseconds. */
const startTime = 30_000;

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {any} body JSON, or undefined
 *
 * @typedef {object} Server
 * @property {string} url
 * @property {{username: string, password: string}} admin the first administrator
 * @property {(method: string, path: string, body?: unknown) => Promise<any>} call calls the API as the administrator; the answer's JSON
 * @property {(token: string | undefined, method: string, path: string, body?: unknown) => Promise<Answer>} as calls it with a credential, or none
 * @property {(username: string, password: string) => Promise<any>} login
 * @property {(username: string, roles?: string[]) => Promise<{id: string, username: string, password: string}>} person makes a user who can sign in
 * @property {() => Promise<void>} stop
 */

/**
 * @param {import("node:test").TestContext} t
 * @param {string[]} [flags]
 * @returns {Promise<Server>}
 */
export async function startServer(t, flags = []) {
  const directory = await mkdtemp(path.join(tmpdir(), "tollgate-console-"));
  const admin = { username: "admin", password: "correct horse battery staple" };
  const child = spawn(
    binary,
    [
      "--listen=127.0.0.1:0", "--metrics-listen=", `--database-url=sqlite:${path.join(directory, "tollgate.db")}`,
      "--bcrypt-cost=4", "--log-format=json", "--log-level=warn", ...flags,
    ],
    { cwd: directory, env: { PATH: process.env.PATH, TOLLGATE_ADMIN_PASSWORD: admin.password }, stdio: ["ignore", "pipe", "pipe"] },
  );
  const exited = once(child, "exit");
  /** @type {string[]} */
  const log = [];
  createInterface({ input: child.stderr }).on("line", (line) => log.push(line));

  async function stop() {
    child.kill("SIGTERM");
    await exited;
    await rm(directory, { recursive: true, force: true });
  }
  cleanup(t, async () => {
    await stop();
    const bad = log.filter((line) => /"level":"ERROR"|panic/.test(line));
    if (bad.length > 0) throw new Error(`the server's log:\n${bad.join("\n")}`);
  });

  const url = await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no server within ${startTime} ms: ${log.join("\n")}`)), startTime);
    createInterface({ input: child.stdout }).on("line", (line) => {
      const said = /^Tollgate answers on (http:\S+)/.exec(line);
      if (!said) return;
      clearTimeout(late);
      resolve(said[1]);
    });
    void exited.then(() => reject(new Error(`the server has ended: ${log.join("\n")}`)));
    child.once("error", reject);
  });
  return { url, admin, stop, ...client(url, admin) };
}

/**
 * @param {string} url
 * @param {{username: string, password: string}} admin
 */
function client(url, admin) {
  /** @type {Promise<string> | undefined} */
  let token;

  /** @type {Server["as"]} */
  async function as(credential, method, to, body) {
    /** @type {Record<string, string>} */
    const headers = { "Content-Type": "application/json" };
    if (credential) headers.Authorization = `Bearer ${credential}`;
    const response = await fetch(url + to, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
    return { status: response.status, body: await response.json().catch(() => undefined) };
  }

  /** @type {Server["login"]} */
  async function login(username, password) {
    const { status, body } = await as(undefined, "POST", "/v1/auth/login", { username, password });
    if (status !== 200) throw new Error(`sign in as ${username}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  /** @type {Server["call"]} */
  async function call(method, to, body) {
    token ??= login(admin.username, admin.password).then((answer) => answer.accessToken);
    const answer = await as(await token, method, to, body);
    if (answer.status !== 200) throw new Error(`${method} ${to}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  /** @type {Server["person"]} */
  async function person(username, roles = []) {
    const password = `the password of ${username}`;
    const { user } = await call("POST", "/v1/users", { username, password, roles });
    return { id: user.id, username, password };
  }

  return { as, login, call, person };
}
