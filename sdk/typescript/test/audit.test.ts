// Proofs of the audit log, as the SDK in Go judges them.

import { expect, test } from "vitest";
import { auditCases } from "./proofs.js";
import { verdict } from "./runtimes/audit.js";

test.each(auditCases)("$name", async (c) => {
  expect(await verdict(c)).toEqual(c.want);
});
