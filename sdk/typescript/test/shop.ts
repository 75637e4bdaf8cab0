// A service whose RPCs carry the option (tollgate.v1.guard), behind the interceptor.

import { once } from "node:events";
import { createServer } from "node:http";
import { create, createFileRegistry, type DescService, type MessageInitShape, setExtension } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, MethodOptionsSchema } from "@bufbuild/protobuf/wkt";
import { type Client, createClient, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter, createConnectTransport } from "@connectrpc/connect-node";
import { caller, contextValues, type Gate, guard } from "../src/connect.js";
import { type GuardSchema, guard as guardOption } from "../src/gen/tollgate/v1/options_pb.js";
import { latch } from "./fake.js";

type Guard = MessageInitShape<typeof GuardSchema>;

const guards: Record<string, Guard | undefined> = {
  Get: { rule: { case: "permission", value: "orders:read" }, self: "id" },
  Delete: { rule: { case: "permission", value: "orders:delete" }, cost: "ids" },
  Me: { rule: { case: "authenticated", value: true }, action: "me:read" },
  Mine: { rule: { case: "selfOnly", value: "id" }, action: "mine:read" },
  Menu: { rule: { case: "public", value: true } },
  NotPublic: { rule: { case: "public", value: false } },
  NotAuthenticated: { rule: { case: "authenticated", value: false } },
  NoPermission: { rule: { case: "permission", value: "" } },
  NoRule: { self: "id" },
  NoGuard: undefined,
  Watch: { rule: { case: "permission", value: "orders:read" }, self: "id" },
  WatchMe: { rule: { case: "authenticated", value: true } },
};

const file = create(FileDescriptorProtoSchema, {
  name: "shop.proto",
  package: "shop.v1",
  syntax: "proto3",
  messageType: [
    {
      name: "Message",
      field: [
        { name: "id", jsonName: "id", number: 1, type: 9, label: 1 },
        { name: "ids", jsonName: "ids", number: 2, type: 9, label: 3 },
      ],
    },
  ],
  service: [
    {
      name: "Shop",
      method: Object.entries(guards).map(([name, value]) => {
        const options = create(MethodOptionsSchema);
        if (value) {
          setExtension(options, guardOption, value as never);
        }
        return { name, inputType: ".shop.v1.Message", outputType: ".shop.v1.Message", options, serverStreaming: name.startsWith("Watch") };
      }),
    },
  ],
});

interface Message {
  id?: string;
  ids?: string[];
}

/** The client of a service that is known at run time only. */
type ShopClient = { [name: string]: (message: Message, options?: object) => Promise<{ id: string }> } & {
  watch: (message: Message, options?: object) => AsyncIterable<{ id: string }>;
  watchMe: (message: Message, options?: object) => AsyncIterable<{ id: string }>;
};

const service = createFileRegistry(file, () => undefined).getService("shop.v1.Shop") as DescService;

/** How many messages a stream sends before it waits for its end. */
export const messages = 3;

/** Serves the shop; its RPCs answer with the id of their caller. */
export async function shop(gate: Gate, options: Parameters<typeof guard>[1] = {}) {
  const passed: string[] = [];
  const ended = latch<string>();
  const answer = (name: string) => (_: unknown, context: Parameters<typeof caller>[0]) => {
    passed.push(name);
    return { id: caller(context)?.principal?.userId ?? "nobody" };
  };
  const stream = (name: string) =>
    async function* (_: unknown, context: HandlerContext) {
      passed.push(name);
      try {
        for (let sent = 0; sent < messages; sent++) {
          yield { id: caller(context)?.principal?.userId ?? "nobody" };
        }
        if (!context.signal.aborted) await once(context.signal, "abort");
      } finally {
        ended.open(name);
      }
    };
  const implementation = Object.fromEntries(
    Object.keys(guards).map((name) => [name[0]?.toLowerCase() + name.slice(1), name.startsWith("Watch") ? stream(name) : answer(name)]),
  );
  const server = createServer(
    connectNodeAdapter({
      routes: (router) => router.service(service, implementation as never),
      interceptors: [guard(gate, options)],
      contextValues,
    }),
  ).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  return {
    url,
    passed,
    /** The first stream whose handler has ended. */
    ended: ended.promise,
    client: createClient(
      service,
      createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
    ) as Client<DescService> as unknown as ShopClient,
    close: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
