/**
 * The learning rate of every step, and how fast the averages of the weights follow.
 *
 * Both are functions of the step alone, so a resumed run needs no state for them. Step t counts
 * updates made so far: the first update uses learningRate(…, 0) and averageDecay(…, 1).
 */

import { stepsPerEpoch } from "../data/epoch.js";
import type { ResolvedSettings } from "./resolve-settings.js";
import type { Settings } from "./settings.js";

/** Numbers of steps. */
export interface RunLength {
  readonly stepsPerEpoch: number;
  /** Of all epochs, which the learning rate follows. */
  readonly scheduled: number;
  /** After which the run ends. */
  readonly steps: number;
}

export interface Schedule {
  readonly kind: "linear" | "cosine";
  /** Rate at the end of the warm-up. */
  readonly peak: number;
  /** Rate from step `decaySteps` on. */
  readonly end: number;
  /** Steps in which the rate rises linearly from peak / warmupSteps to the peak. */
  readonly warmupSteps: number;
  /** Steps of warm-up and decay together. */
  readonly decaySteps: number;
}

/**
 * @param isSolved whether the classifier is solved before the first step; where nothing else learns, there is none
 * @throws UsageError when the pictures do not make one step.
 */
export function runLength(
  settings: Pick<
    ResolvedSettings["settings"],
    "batch_size" | "shards" | "lr" | "max_epochs" | "max_train_steps" | "freeze"
  >,
  images: number,
  isSolved = false,
): RunLength {
  const perEpoch = stepsPerEpoch(images, settings.batch_size, { shards: settings.shards, lr: settings.lr });
  const scheduled = Math.max(1, Math.floor(settings.max_epochs * perEpoch));
  const steps = settings.freeze && isSolved ? 0 : Math.min(scheduled, settings.max_train_steps ?? Infinity);
  return { stepsPerEpoch: perEpoch, scheduled, steps };
}

export function scheduleOf(
  settings: Pick<Settings, "schedule" | "lr" | "end_learning_rate" | "warmup_epochs">,
  length: RunLength,
): Schedule {
  return {
    kind: settings.schedule,
    peak: settings.lr,
    end: settings.end_learning_rate,
    warmupSteps: Math.round(settings.warmup_epochs * length.stepsPerEpoch),
    decaySteps: length.scheduled,
  };
}

/**
 * Rate of the update made at step t, t counted from 0.
 *
 * Linear: (peak - end)(1 - min(t, N) / N) + end, tf.train.polynomial_decay with power 1; cosine:
 * half a wave from peak to end, torch.optim.lr_scheduler.CosineAnnealingLR. With a warm-up, t and N
 * count from its end.
 */
export function learningRate(schedule: Schedule, t: number): number {
  const { kind, peak, end, warmupSteps, decaySteps } = schedule;
  if (t < warmupSteps) return (peak * (t + 1)) / warmupSteps;
  const total = decaySteps - warmupSteps;
  const done = total <= 0 ? 1 : Math.min(t - warmupSteps, total) / total;
  const share = kind === "linear" ? 1 - done : (1 + Math.cos(Math.PI * done)) / 2;
  return (peak - end) * share + end;
}

/**
 * Decay of the averages after the update that makes the step count t (1, 2, …):
 * min(decay, (1 + t) / (10 + t)), so early averages forget the initial weights.
 *
 * Source: tf.train.ExponentialMovingAverage with num_updates.
 */
export function averageDecay(decay: number, t: number): number {
  return Math.min(decay, (1 + t) / (10 + t));
}
