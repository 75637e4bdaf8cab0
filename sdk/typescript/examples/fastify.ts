import { Tollgate } from "@tollgate/sdk";
import { caller, protect } from "@tollgate/sdk/fastify";
import fastify from "fastify";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY });

export const app = fastify();

app.get<{ Params: { id: string } }>("/orders/:id", { onRequest: protect(gate, "orders:read") }, async (req) => {
  return `order ${req.params.id} for ${caller(req)?.principal?.username}`;
});
