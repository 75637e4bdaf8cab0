export type { AuditCheckpoint } from "./audit/checkpoint.js";
export { NotProvenError } from "./audit/error.js";
export { AuditLogKeys, type ProvenEvent, parseAuditLogKeys, verifyConsistency } from "./audit/proof.js";
