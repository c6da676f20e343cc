/**
 * What the loss is multiplied by, so that gradients are not too small for a narrow number format, and how that changes
 * from step to step: the rule in TypeScript (native/runtime/loss_scale.h is the engine's).
 *
 * A step whose loss or gradient is not finite is skipped. Dynamic scaling, in f32:
 *
 *     finite        good + 1 >= 1000: scale = 2 * scale where that is finite, good = bad = 0; else good += 1
 *     not finite    bad + 1 >= 2: scale = max(1, 0.8 * scale), good = bad = 0; else bad += 1, good = 0
 *
 * Source: tf.contrib.mixed_precision.ExponentialUpdateLossScaleManager with the numbers of the original.
 */

/** In the order of `enum class LossScaling`. */
export const lossScalings = ["none", "fixed", "dynamic"] as const;
export type LossScaling = (typeof lossScalings)[number];

export interface LossScaleCounts {
  /** An f32. */
  readonly scale: number;
  /** Finite steps since the scale changed or a step was not finite. */
  readonly good: number;
  /** Steps that were not finite since the scale changed; finite ones between do not count back. */
  readonly bad: number;
  /** Steps that were not finite since the last that was. */
  readonly consecutive: number;
}

export interface LossScale extends LossScaleCounts {
  readonly kind: LossScaling;
}

const GROW_AFTER = 1000;
const FALL_AFTER = 2;
const GROWTH = 2;
const FALL = Math.fround(0.8);
const SMALLEST = 1;

/** Steps that are not finite, in a row, at a scale that cannot fall. */
const PATIENCE = 20;

/** What a run begins with. */
export function initialLossScale(kind: LossScaling, scale = 1): LossScale {
  return { kind, scale: Math.fround(scale), good: 0, bad: 0, consecutive: 0 };
}

/** After a step of all shards and processes. */
export function nextLossScale(before: LossScale, finite: boolean): LossScale {
  if (before.kind === "none") return before;
  const after = { ...before, consecutive: finite ? 0 : before.consecutive + 1 };
  if (before.kind === "fixed") return after;
  if (finite) {
    if (before.good + 1 < GROW_AFTER) return { ...after, good: before.good + 1 };
    const grown = Math.fround(before.scale * GROWTH);
    return { ...after, scale: Number.isFinite(grown) ? grown : before.scale, good: 0, bad: 0 };
  }
  if (before.bad + 1 < FALL_AFTER) return { ...after, good: 0, bad: before.bad + 1 };
  return { ...after, scale: Math.max(SMALLEST, Math.fround(before.scale * FALL)), good: 0, bad: 0 };
}

/** Whether steps are never finite, whatever the scale: it can fall no more. */
export function isStuck({ kind, scale, consecutive }: LossScale): boolean {
  return consecutive >= PATIENCE && (kind === "fixed" || scale <= SMALLEST);
}
