import { InvalidArgumentError, Tollgate, UnavailableError } from "@tollgate/sdk";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY, timeoutMs: 1000 });

export async function exportOrders(token: string, tenant: string): Promise<string> {
  const alice = gate.as(token);
  const [read, count] = await Promise.all([
    alice.authorize({ permission: "orders:read", context: { tenant } }),
    gate.checkLimit("exports", tenant, { cost: 5 }),
  ]);
  if (!read.allowed) {
    return `no: ${read.reason}`;
  }
  if (!count.allowed) {
    return `try again in ${count.retryAfterMs} ms`;
  }
  await gate.recordEvent({ actor: read.principal, action: "orders.export", outcome: "SUCCESS", resource: `tenants/${tenant}` });
  return `${count.status.remaining} of ${count.status.limit} left`;
}

export async function catalog(token: string): Promise<string> {
  try {
    const { reason } = await gate.authorize({ credential: token, permission: "catalog:read" }, { onUnavailable: "allow" });
    return reason;
  } catch (e) {
    if (e instanceof UnavailableError) return "try again later";
    if (e instanceof InvalidArgumentError) return `${e.field} is wrong`;
    throw e; // this service's own key, or a fault
  }
}
