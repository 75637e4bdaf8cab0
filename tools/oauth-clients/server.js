// Starts the real tollgate binary and calls its REST API.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binary = process.env.TOLLGATE_BINARY;
const password = "correct horse battery";

// freePort returns a port that was free: the issuer must be known before the
// server listens.
async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

// start starts a server with an empty database. Call stop when done.
export async function start() {
  if (!binary) throw new Error("TOLLGATE_BINARY is not set; run 'make test-oauth-clients'");
  const dir = await mkdtemp(join(tmpdir(), "tollgate-oauth-clients-"));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(binary, ["--listen", `127.0.0.1:${port}`, "--metrics-listen=", "--issuer", url, "--bcrypt-cost", "4"], {
    cwd: dir,
    env: { TOLLGATE_ADMIN_PASSWORD: password },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  let log = "";
  child.stderr.on("data", (text) => (log += text));
  await new Promise((ready, failed) => {
    child.stdout.on("data", (text) => String(text).includes(url) && ready());
    child.once("exit", () => failed(new Error(`tollgate exited: ${log}`)));
  });

  const server = {
    url,
    // call makes a call that must succeed, as an administrator after signIn.
    async call(method, path, body) {
      const res = await fetch(url + path, {
        method,
        headers: { "Content-Type": "application/json", ...(server.token && { Authorization: `Bearer ${server.token}` }) },
        body: body && JSON.stringify(body),
      });
      const answer = await res.json();
      if (!res.ok) throw new Error(`${method} ${path}: ${res.status} ${JSON.stringify(answer)}`);
      return answer;
    },
    // signIn returns the tokens of a new session of the administrator.
    async signIn() {
      const login = await server.call("POST", "/v1/auth/login", { username: "admin", password });
      server.token = login.accessToken;
      return login;
    },
    // newClient creates a service account with a key of these scopes; it holds
    // a role of the same permissions.
    async newClient(name, ...permissions) {
      const { user } = await server.call("POST", "/v1/users", { username: name, kind: "USER_KIND_SERVICE" });
      await server.call("POST", "/v1/roles", { name, permissions });
      await server.call("PUT", `/v1/roles/${name}/members/${user.id}`, {});
      const made = await server.call("POST", "/v1/api-keys", { userId: user.id, name, scopes: permissions });
      return { id: made.apiKey.id, secret: made.secret };
    },
    async stop() {
      child.kill();
      await exited;
      await rm(dir, { recursive: true });
    },
  };
  return server;
}
