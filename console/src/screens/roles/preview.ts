import { Effect, type Grant, type ReplayedDecision, type RoleChange } from "@tollgate/roles_pb.js";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { UpdateRoleRequestSchema } from "@tollgate/roles_pb.js";
import { all } from "@/lib/all";
import { roles } from "@/lib/api/clients";
import { counted } from "@/lib/format";

/** How many of the latest recorded refusals, and of the latest recorded calls that were allowed, are decided again. */
const replay = 1000;

export interface Preview {
  changes: RoleChange[];
  /** More users than these change. */
  more: boolean;
  replayed: ReplayedDecision[];
  /** How many decisions on record were made again. */
  again: number;
}

/** What an update would change, for up to about a thousand users. */
export async function previewOf(update: MessageInitShape<typeof UpdateRoleRequestSchema>, signal?: AbortSignal): Promise<Preview> {
  let replayed: ReplayedDecision[] = [];
  let again = 0;
  const { items, more } = await all(async (pageToken) => {
    const answer = await roles.previewRole({ update, pageSize: 250, pageToken, replay: pageToken ? 0 : replay }, { signal, timeoutMs: 60_000 });
    if (!pageToken) {
      replayed = answer.replayed;
      again = answer.replayedRefusals + answer.replayedAllows;
    }
    return { items: answer.changes, next: answer.nextPageToken };
  });
  return { changes: items, more, replayed, again };
}

export const grantText = (grant: Grant): string => `${grant.permission}${grant.condition ? " (under a condition)" : ""}`;

/** "12 users lose orders:pack", the most users first. */
export function summary({ changes, more }: Preview): string[] {
  const counts = new Map<string, { n: number; verb: [string, string]; what: string }>();
  const count = (verb: [string, string], what: string) => {
    const key = verb[0] + what;
    const entry = counts.get(key) ?? { n: 0, verb, what };
    entry.n++;
    counts.set(key, entry);
  };
  for (const { gains, losses } of changes) {
    for (const grant of losses) grant.effect === Effect.DENY ? count(["is denied", "are denied"], grantText(grant)) : count(["loses", "lose"], grantText(grant));
    for (const grant of gains) grant.effect === Effect.DENY ? count(["is no longer denied", "are no longer denied"], grantText(grant)) : count(["gains", "gain"], grantText(grant));
  }
  return [...counts.values()]
    .sort((a, b) => b.n - a.n)
    .map(({ n, verb, what }) => `${more ? "More than " : ""}${counted(n, "user")} ${n === 1 ? verb[0] : verb[1]} ${what}`);
}
