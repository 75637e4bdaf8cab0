import { Tollgate } from "@tollgate/sdk";
import { authenticate, caller } from "@tollgate/sdk/express";
import { Verifier } from "@tollgate/sdk/verifier";
import express from "express";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY });

export const verifier = new Verifier(gate, {
  issuer: "http://127.0.0.1:8000", // the server's --issuer
  audience: "tollgate", // the server's --audience, or your service's own
});
await verifier.ready();

export const app = express();

app.get("/me", authenticate(verifier), (req, res) => {
  res.send(`you are ${caller(req)?.principal?.userId}`);
});
