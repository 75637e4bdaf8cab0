// Codes of a second factor (RFC 6238), for users of the tests.
import { createHmac } from "node:crypto";

/**
 * The code of a secret in base32, at a time or the one after some steps of 30 seconds.
 * @param {string} secret
 * @param {number} [step]
 */
export function totp(secret, step = 0) {
  const bits = [...secret.replace(/=+$/, "")].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + step));
  const mac = createHmac("sha1", key).update(counter).digest();
  const at = (mac.at(-1) ?? 0) & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

/**
 * Turns a second factor on for a user.
 * @param {import("./server.js").Server} server
 * @param {{id: string, username: string, password: string}} user
 * @returns {Promise<{secret: string, recoveryCodes: string[]}>}
 */
export async function secondFactor(server, user) {
  const { accessToken } = await server.login(user.username, user.password);
  const { body } = await server.as(accessToken, "POST", `/v1/users/${user.id}/second-factor`, { currentPassword: user.password });
  const confirmed = await server.as(accessToken, "POST", `/v1/users/${user.id}/second-factor/confirm`, { code: totp(body.secret) });
  if (confirmed.status !== 200) throw new Error(`second factor: ${JSON.stringify(confirmed.body)}`);
  return body;
}
