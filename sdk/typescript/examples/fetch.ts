import { Tollgate } from "@tollgate/sdk";
import { protect } from "@tollgate/sdk/fetch";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY });

export default {
  fetch: protect(gate, "orders:read", (request, { principal }) => {
    return new Response(`${new URL(request.url).pathname} for ${principal?.username}`);
  }),
};
