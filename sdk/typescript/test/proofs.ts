// The proofs that every SDK judges alike: sdk/testdata/audit.json.

import { readFileSync } from "node:fs";
import { type AuditCase, repeated } from "./runtimes/audit.js";

const text = readFileSync(new URL("../../testdata/audit.json", import.meta.url), "utf8");

export const auditCases = JSON.parse(text, (_, value) => (typeof value === "string" ? repeated(value) : value)) as AuditCase[];
