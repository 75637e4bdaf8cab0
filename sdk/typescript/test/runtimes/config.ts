import type { AuditCase } from "./audit.js";

// The tests write another in its place.
export const config = { url: "", key: "", limit: "", nobody: "", proofs: [] as AuditCase[] };
