/**
 * Which shards of a step a rank runs: neighbours, and so many that their sum is one that the tree over all shards
 * (shard-sums.ts) has too. That is why the bits do not depend on how many ranks there are.
 */

import { UsageError } from "../core/error.js";

/** Neighbouring shards. */
export interface ShardShare {
  /** From 0. */
  readonly first: number;
  readonly count: number;
  /** Shards of a step, over all ranks. */
  readonly of: number;
}

/** A step that is one batch. */
export const ONE_SHARD: ShardShare = { first: 0, count: 1, of: 1 };

/** @throws UsageError naming the numbers of ranks that fit. */
export function shardsOf({
  shards,
  rank,
  ranks,
}: {
  readonly shards: number;
  readonly rank: number;
  readonly ranks: number;
}): ShardShare {
  if (!fits(shards, ranks)) {
    const fitting = Array.from({ length: shards }, (_, i) => i + 1).filter((each) => fits(shards, each));
    const fewer = fitting.findLast((each) => each <= ranks);
    throw new UsageError({
      what: `${shards} shards cannot be shared among ${ranks} ranks to the same bits`,
      where: "option --shards",
      expected: `${orList(fitting)} ranks for ${shards} shards: each runs 1, 2, 4, ... of them`,
      found: `${ranks} ranks`,
      safe: "Nothing was trained or written",
      hint: `Start ${fewer} with npx riffle-vision launch --ranks ${fewer}, or give --shards ${ranks}`,
    });
  }
  const count = shards / ranks;
  return { first: rank * count, count, of: shards };
}

/** One rank adds any number of shards as the tree says; several add 1, 2, 4, ... each, which are sums of the tree. */
function fits(shards: number, ranks: number): boolean {
  const count = shards / ranks;
  return ranks === 1 || (Number.isInteger(count) && Number.isInteger(Math.log2(count)));
}

/** "1, 2 or 4" */
function orList(numbers: readonly number[]): string {
  if (numbers.length === 1) return String(numbers[0]);
  return `${numbers.slice(0, -1).join(", ")} or ${numbers.at(-1)}`;
}
