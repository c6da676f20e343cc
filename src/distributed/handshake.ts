/**
 * The handshake: before the first step all ranks hold what they are about to do against each other's, because ranks that differ in
 * it train to nonsense, or wait for each other without an end.
 */

import { DistributedError } from "../core/error.js";
import { everybodys } from "./duties.js";
import type { Ranks } from "./ranks.js";

/** What has to be the same everywhere, by name. */
export type Agreed = Readonly<Record<string, string>>;

/** @throws DistributedError with one table, on all ranks alike, of what differs. */
export async function agree(ranks: Pick<Ranks, "rank" | "size" | "gather">, own: Agreed): Promise<void> {
  const all = await everybodys(ranks, "handshake", own);
  const rows = differences(all);
  if (rows.length === 0) return;
  throw new DistributedError({
    what: "the ranks are not about to do the same",
    where: "handshake before the first step",
    expected: "the same on every rank",
    found: rows.map(({ field }) => field).join(", "),
    table: table(rows),
    safe: "No step was made",
    hint: "Start all ranks with the same command, of the same version, on the same data",
  });
}

interface Row {
  readonly field: string;
  readonly first: string;
  readonly rank: number;
  readonly other: string;
}

/** Of each field that differs, the first rank whose value is not rank 0's. */
function differences(all: readonly Agreed[]): Row[] {
  const fields = new Set(all.flatMap((each) => Object.keys(each)));
  return [...fields].sort().flatMap((field) => {
    const values = all.map((each) => each[field] ?? "nothing");
    const first = values[0] as string;
    const rank = values.findIndex((value) => value !== first);
    return rank < 0 ? [] : [{ field, first, rank, other: values[rank] as string }];
  });
}

function table(rows: readonly Row[]): string[] {
  const cells = [
    ["field", "rank 0", "another rank"],
    ...rows.map(({ field, first, rank, other }) => [field, first, `rank ${rank}: ${other}`]),
  ];
  const widths = [0, 1].map((column) => Math.max(...cells.map((row) => (row[column] as string).length)));
  return cells.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}
