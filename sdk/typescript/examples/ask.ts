import { Tollgate } from "@tollgate/sdk";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY });

export async function readOrder(token: string, id: string): Promise<string> {
  const decision = await gate.authorize({ credential: token, permission: "orders:read", resource: `orders/${id}` });
  return decision.allowed ? `order ${id} for ${decision.principal?.username}` : `no: ${decision.reason}`;
}
