import type { Limit } from "@tollgate/limits_pb.js";
import type { LimitUse } from "@tollgate/overview_pb.js";
import { problem } from "@/lib/api/problem";
import { counted } from "@/lib/format";
import { names } from "@/lib/names.svelte";
import { some } from "../users/impact";
import { readUses } from "./uses.svelte";

const who = (use: LimitUse) => (use.key ? names.of(use.key) : "everybody");

/** The keys of a limit that are near its end, or why they are not known. */
async function usesOf(limit: string, signal: AbortSignal): Promise<LimitUse[] | string> {
  try {
    return (await readUses(signal)).filter((use) => use.limit === limit);
  } catch (cause) {
    if (problem(cause).denied) return "Whom that concerns is not known to you: it takes the permission tollgate:overview:read.";
    throw cause;
  }
}

/** What a limit that only watched would have refused, as far as it is known. */
export async function enforces(limit: Limit, signal: AbortSignal): Promise<string[]> {
  const uses = await usesOf(limit.name, signal);
  const lines = ["Calls over the limit are refused from now on, instead of only counted."];
  if (typeof uses === "string") return [...lines, uses];
  const over = uses.filter((use) => use.exceeded || use.remaining === 0n);
  lines.push(
    over.length === 0
      ? `Nobody would be refused now${uses.length > 0 ? `, but ${counted(uses.length, "key")} ${uses.length === 1 ? "has" : "have"} a fifth or less left: ${some(uses.map(who))}` : ""}.`
      : `${counted(over.length, "key")} would be refused now: ${some(over.map(who))}.`,
  );
  return [...lines, "That is what the instance that answered knows of the last 15 minutes, of the 20 keys nearest their end."];
}

export async function watches(limit: Limit, signal: AbortSignal): Promise<string[]> {
  const uses = await usesOf(limit.name, signal);
  const lines = ["It refuses nothing any more, and only counts and reports."];
  if (typeof uses === "string") return [...lines, uses];
  const over = uses.filter((use) => use.exceeded || use.remaining === 0n);
  return over.length === 0 ? lines : [...lines, `${counted(over.length, "key")} that ${over.length === 1 ? "is" : "are"} refused now may call again: ${some(over.map(who))}.`];
}

export async function deletes(limit: Limit, signal: AbortSignal): Promise<string[]> {
  const uses = await usesOf(limit.name, signal);
  const lines = [`Calls of ${limit.permission} are no longer limited by it.`];
  if (typeof uses !== "string" && uses.length > 0) lines.push(`${counted(uses.length, "key")} ${uses.length === 1 ? "is" : "are"} near its end now: ${some(uses.map(who))}.`);
  if (limit.overrides.length > 0) lines.push(`${counted(limit.overrides.length, "override")} of its own ${limit.overrides.length === 1 ? "goes" : "go"} with it.`);
  return [...lines, "What it has counted is lost. This cannot be undone."];
}

/** Of the keys near their end, those that a smaller allowance refuses at once. */
export function refusedBy(uses: readonly LimitUse[], most: bigint): string[] {
  return uses.filter((use) => use.quota - use.remaining >= most && use.remaining > 0n).map(who);
}
