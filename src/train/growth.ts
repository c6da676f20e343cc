/**
 * Pictures that grow: the first epochs of a run see small ones, the others those of `image_size`.
 *
 * The work of a step falls with the square of the side, and what is learnt on small pictures holds on larger ones, so a run
 * of the same length makes more epochs. The size is a function of the step alone, so a resumed run needs no state for it.
 * Step counts are updates made so far; sizes are in pixels.
 */

import type { Settings } from "../settings/settings.js";
import type { RunLength } from "../settings/schedule.js";

type GrowthSettings = Pick<Settings, "image_size" | "grow_from" | "grow_epochs" | "max_epochs">;

/** Steps on pictures of `grow_from`; 0 where they do not grow. */
export function stepsBeforeGrowth(
  settings: Omit<GrowthSettings, "image_size">,
  { stepsPerEpoch }: Pick<RunLength, "stepsPerEpoch">,
): number {
  const { grow_from, max_epochs, grow_epochs = max_epochs / 2 } = settings;
  return grow_from === undefined ? 0 : Math.round(grow_epochs * stepsPerEpoch);
}

/** Side of the pictures of the step after `step`. */
export function trainingSize(
  step: number,
  settings: GrowthSettings,
  length: Pick<RunLength, "stepsPerEpoch">,
): number {
  const { image_size, grow_from = image_size } = settings;
  return step < stepsBeforeGrowth(settings, length) ? grow_from : image_size;
}

/** What is left after `step`, counted in steps of the size at hand: the work of a step is in proportion to its pixels. */
export function stepsLeft(
  step: number,
  settings: GrowthSettings,
  length: Pick<RunLength, "stepsPerEpoch" | "steps">,
): number {
  const { image_size } = settings;
  const size = trainingSize(step, settings, length);
  const atSize =
    size === image_size
      ? length.steps - step
      : Math.min(stepsBeforeGrowth(settings, length), length.steps) - step;
  return atSize + (length.steps - step - atSize) * (image_size / size) ** 2;
}
