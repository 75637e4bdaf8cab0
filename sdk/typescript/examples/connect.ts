import { createServer } from "node:http";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Tollgate } from "@tollgate/sdk";
import { caller, contextValues, guard } from "@tollgate/sdk/connect";
import { OrdersService } from "./gen/orders/v1/orders_pb.js";

const gate = new Tollgate({ url: "http://127.0.0.1:8000", apiKey: process.env.TOLLGATE_API_KEY });

export const server = createServer(
  connectNodeAdapter({
    interceptors: [guard(gate)],
    contextValues, // the address of the peer
    routes: (router) => {
      router.service(OrdersService, {
        getOrder: ({ id }, context) => ({ order: { id, item: "tea", userId: caller(context)?.principal?.userId ?? "" } }),
        getMenu: () => ({ items: ["tea", "cake"] }),
      });
    },
  }),
);
