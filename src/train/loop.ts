/**
 * How many steps the engine makes in one call: a loop of `iterations_per_loop`, cut where anything is due between them, so
 * that reports, saves and evaluations fall where single steps would have them.
 */

import type { Settings } from "../settings/settings.js";
import { stepsBeforeGrowth } from "./growth.js";
import type { RunLength } from "../settings/schedule.js";

type LoopSettings = Pick<
  Settings,
  "iterations_per_loop" | "save_checkpoints_steps" | "epochs_between_evals" | "mode"
>;

type Growing = Pick<Settings, "grow_from" | "grow_epochs" | "max_epochs">;

/** Steps of the longest loop of a run. */
export function longestLoop(settings: LoopSettings, length: RunLength): number {
  return Math.max(1, Math.min(length.steps, ...intervals(settings, length)));
}

/**
 * Steps of the loop that begins after `step`. A step that `isAlone` says is a loop of its own: a summary looks at the weights
 * before it.
 */
export function loopAfter(
  step: number,
  settings: LoopSettings & Growing,
  length: RunLength,
  isAlone: (step: number) => boolean,
): number {
  const ends = intervals(settings, length).map((interval) => (Math.floor(step / interval) + 1) * interval);
  const growth = stepsBeforeGrowth(settings, length);
  const end = Math.min(length.steps, ...ends, ...(step < growth ? [growth] : []));
  for (let next = step + 1; next <= end; next++) if (isAlone(next)) return Math.max(1, next - 1 - step);
  return end - step;
}

/** Steps between what ends a loop. */
function intervals(settings: LoopSettings, { stepsPerEpoch }: RunLength): number[] {
  const { iterations_per_loop, save_checkpoints_steps, epochs_between_evals, mode } = settings;
  return [
    iterations_per_loop,
    save_checkpoints_steps,
    ...(mode === "train" ? [] : [epochs_between_evals * stepsPerEpoch]),
  ];
}
