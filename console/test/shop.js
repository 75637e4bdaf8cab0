// A server with something to see: people, roles, a service that asks, limits, routes.

/**
 * @typedef {object} Shop
 * @property {Record<"alice" | "bob", {id: string, username: string, password: string}>} people
 * @property {string} serviceId
 * @property {string} key the service's API key
 * @property {(user: string, permission: string, more?: object) => Promise<any>} authorize asks as the service
 */

/**
 * @param {import("./server.js").Server} server
 * @returns {Promise<Shop>}
 */
export async function openShop(server) {
  const { call } = server;
  await call("POST", "/v1/roles", { name: "order-reader", description: "May look at orders", permissions: ["orders:read", "orders:list"] });
  await call("POST", "/v1/roles", {
    name: "order-editor",
    description: "May change orders, and refund those of the own department",
    permissions: ["orders:write"],
    inherits: ["order-reader"],
    grants: [
      { permission: "orders:refund", condition: 'resource.attributes.department == "sales"' },
      { permission: "orders:delete", effect: "EFFECT_DENY", description: "Nobody deletes orders" },
    ],
  });
  await call("POST", "/v1/roles", { name: "gate", description: "What services need", permissions: ["tollgate:authorize", "tollgate:audit:record"] });
  const people = { alice: await server.person("alice", ["order-editor"]), bob: await server.person("bob", ["order-reader"]) };
  const { user: service } = await call("POST", "/v1/users", { username: "orders", kind: "USER_KIND_SERVICE", roles: ["gate"] });
  const { secret: key } = await call("POST", "/v1/api-keys", { userId: service.id, name: "orders in production" });
  await call("POST", "/v1/limits", { name: "orders-per-user", description: "Calls of one user", subject: "SUBJECT_USER", permission: "orders:*", rate: 5, period: "60s" });
  await call("POST", "/v1/routes", { name: "orders-item", description: "One order", host: "shop.example.com", methods: ["GET"], path: "/orders/{id}", permission: "orders:read", resource: "orders/{id}" });
  await call("POST", "/v1/routes", { name: "orders-change", host: "shop.example.com", methods: ["PUT", "PATCH"], path: "/orders/{id}", permission: "orders:write", resource: "orders/{id}", cost: 5 });
  await call("POST", "/v1/routes", { name: "health", path: "/healthz", public: true });

  /** @type {Shop["authorize"]} */
  const authorize = async (userId, permission, more = {}) => (await server.as(key, "POST", "/v1/authorize", { userId, permission, ...more })).body;
  return { people, serviceId: service.id, key, authorize };
}

/** Every screen, by the paths that show it. */
export const screens = [
  "/console/",
  "/console/audit",
  "/console/try",
  "/console/users",
  "/console/roles",
  "/console/roles/order-editor",
  "/console/api-keys",
  "/console/limits",
  "/console/limits/orders-per-user",
  "/console/routes",
  "/console/signing-keys",
];
