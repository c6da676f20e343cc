/**
 * How many steps an epoch has: the one place that divides a set into batches, so that the loader, the schedule and a
 * checkpoint cannot count differently.
 */

import { UsageError } from "../core/error.js";

/**
 * Whole batches in the smallest rank's share of the pictures; what is left over waits for another epoch's order.
 *
 * @param batch of one rank
 * @param options `lr` is the rate that belongs to the batch, for the hint to name the one that belongs to another
 * @throws UsageError when there is not one.
 */
export function stepsPerEpoch(images: number, batch: number, { ranks = 1, lr = NaN } = {}): number {
  // The smallest share's, so that every rank makes the same steps.
  const share = Math.floor(images / ranks);
  const steps = Math.floor(share / batch);
  if (steps > 0) return steps;
  const fits = 2 ** Math.floor(Math.log2(Math.max(1, share)));
  const itsRate = Number.isNaN(lr) ? "" : ` --lr ${Number(((lr * fits) / batch).toPrecision(12))}`;
  throw new UsageError({
    what:
      ranks === 1
        ? "the batch is larger than the training set"
        : `the batch is larger than a rank's share of the training set, one of ${ranks}`,
    where: `--batch_size ${batch}`,
    expected: `at most ${share}`,
    found: `${batch}`,
    safe: "Nothing was trained",
    hint: `--batch_size ${fits}${itsRate}`,
  });
}
