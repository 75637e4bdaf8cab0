import type { Override } from "@tollgate/limits_pb.js";
import { limits } from "@/lib/api/clients";

interface Plain {
  key: string;
  rate: bigint;
  burst: bigint;
}

/** The list with one key's override replaced, added, or without it. */
export function replaced(list: readonly Override[], key: string, next: Plain | undefined): Plain[] {
  const plain = list.map(({ key, rate, burst }) => ({ key, rate, burst }));
  const at = plain.findIndex((override) => override.key === key);
  if (at < 0) return next ? [...plain, next] : plain;
  return next ? plain.with(at, next) : plain.toSpliced(at, 1);
}

/** Changes the overrides of a limit as they are now: an update replaces all of them. */
export async function withOverrides(name: string, change: (list: readonly Override[]) => Plain[]): Promise<void> {
  const { limit } = await limits.getLimit({ name });
  const overrides = change(limit?.overrides ?? []);
  await limits.updateLimit({ name, overrides, clearOverrides: overrides.length === 0 });
}
