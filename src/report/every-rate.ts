/**
 * The learning rates of all steps of a run, though its log has only one step in many: they follow from its settings. A short
 * run's warm-up may lie before the first step that its log has.
 */

import { type Schedule, learningRate } from "../settings/schedule.js";
import type { History, StepPoint } from "./history.js";

export type RatePoint = Pick<StepPoint, "step" | "epoch" | "rate">;

/**
 * At most `most` points, up to the run's end or the last step of its log.
 *
 * @returns undefined where the settings do not give the rates that the log has: the run was resumed with others
 */
export function everyRate(
  { start, steps, end }: Pick<History, "start" | "steps" | "end">,
  most: number,
): RatePoint[] | undefined {
  if (start === null || steps.length === 0) return undefined;
  const schedule = scheduleOfLog(start);
  if (schedule === undefined) return undefined;
  const rateOf = (step: number): number => learningRate(schedule, step - 1);
  const isSame = ({ step, rate }: StepPoint): boolean =>
    Math.abs(rateOf(step) - rate) <= 1e-9 * Math.max(schedule.peak, schedule.end);
  if (!steps.every(isSame)) return undefined;
  const last = end?.step ?? (steps.at(-1) as StepPoint).step;
  const count = Math.min(most, last);
  return Array.from({ length: count }, (_, i) => {
    // The first and the last step are always among them.
    const step = count === 1 ? last : 1 + Math.round((i * (last - 1)) / (count - 1));
    return { step, epoch: step / start.steps_per_epoch, rate: rateOf(step) };
  });
}

function scheduleOfLog({
  settings,
  epochs,
  steps_per_epoch,
}: NonNullable<History["start"]>): Schedule | undefined {
  const { schedule: kind, lr: peak, end_learning_rate: end, warmup_epochs: warmup } = settings;
  if (kind !== "linear" && kind !== "cosine") return undefined;
  if (typeof peak !== "number" || typeof end !== "number" || typeof warmup !== "number") return undefined;
  return {
    ...{ kind, peak, end },
    warmupSteps: Math.round(warmup * steps_per_epoch),
    decaySteps: Math.max(1, Math.floor(epochs * steps_per_epoch)),
  };
}
