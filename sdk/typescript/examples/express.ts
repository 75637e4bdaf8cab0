import { Tollgate } from "@tollgate/sdk";
import { caller, protect } from "@tollgate/sdk/express";
import express from "express";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY });

export const app = express();

app.get(
  "/orders/:id",
  protect(gate, "orders:read", (req) => ({ resource: `orders/${req.params.id}` })),
  (req, res) => {
    res.send(`order ${req.params.id} for ${caller(req)?.principal?.username}`);
  },
);
