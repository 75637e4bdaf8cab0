import { getConnInfo } from "@hono/node-server/conninfo";
import { Tollgate } from "@tollgate/sdk";
import { caller, protect } from "@tollgate/sdk/hono";
import { Hono } from "hono";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY });

export const app = new Hono();

app.get(
  "/orders/:id",
  protect(gate, "orders:read", (c) => ({ ip: getConnInfo(c).remote.address })),
  (c) => {
    return c.text(`order ${c.req.param("id")} for ${caller(c)?.principal?.username}`);
  },
);
