/**
 * How many steps an epoch has: the one place that divides a set into batches, so that the loader, the schedule and a
 * checkpoint cannot count differently.
 */

import { UsageError } from "../core/error.js";

/**
 * Steps of whole batches, one for each shard; what is left over waits for another epoch's order.
 *
 * @param batch of one shard
 * @param options `lr` is the rate that belongs to the batch, for the hint to name the one that belongs to another
 * @throws UsageError when there is not one.
 */
export function stepsPerEpoch(images: number, batch: number, { shards = 1, lr = NaN } = {}): number {
  // The smallest shard's share, so that every shard makes the same steps.
  const share = Math.floor(images / shards);
  const steps = Math.floor(share / batch);
  if (steps > 0) return steps;
  if (share === 0) {
    throw new UsageError({
      what: "there are more shards than training pictures",
      where: `--shards ${shards}`,
      expected: `at most ${images}`,
      found: `${shards}`,
      safe: "Nothing was trained",
      hint: "Fewer shards, or fewer ranks",
    });
  }
  const fits = 2 ** Math.floor(Math.log2(share));
  const itsRate = Number.isNaN(lr) ? "" : ` --lr ${Number(((lr * fits) / batch).toPrecision(12))}`;
  throw new UsageError({
    what:
      shards === 1
        ? "the batch is larger than the training set"
        : `the batch is larger than a shard's share of the training set, one of ${shards}`,
    where: `--batch_size ${batch}`,
    expected: `at most ${share}`,
    found: `${batch}`,
    safe: "Nothing was trained",
    hint: `--batch_size ${fits}${itsRate}`,
  });
}
