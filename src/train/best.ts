/**
 * Which of two evaluations is the better one: what `best/` holds, and so what is predicted with and exported.
 */

import type { Best } from "../run/checkpoint-state.js";

/**
 * By top-1; of equal ones the lower loss, then the later step. A loss that is not finite is never better than anything:
 * such a network may count right what it answers always. Where a checkpoint does not say a loss, ties go to the later step.
 */
export function isBetter(one: Best, other: Best | null): boolean {
  if (one.loss !== undefined && !Number.isFinite(one.loss)) return false;
  if (other === null) return true;
  if (one.top1 !== other.top1) return one.top1 > other.top1;
  const { loss = NaN } = one;
  const { loss: otherLoss = NaN } = other;
  if (loss < otherLoss) return true;
  return loss > otherLoss ? false : one.step >= other.step;
}
