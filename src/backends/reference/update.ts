/**
 * The update after a step: weights, momentum, averages and moving statistics, each number in f64, stored in f32.
 *
 *     g = gradient + weightDecay * w       where the parameter decays
 *     a = momentum * a + g
 *     w = w - rate * (nesterov ? g + momentum * a : a)       rate: the learning rate times the parameter's own multiple
 *     average = decay * average + (1 - decay) * w
 *
 *     moving = moving - (1 - m) * (moving - batch)       the batch's variance times n / (n - 1)
 *
 * Source: tf.train.MomentumOptimizer(use_nesterov=True) and tf.train.ExponentialMovingAverage, which
 * torch.optim.SGD(nesterov=True) equals at a constant rate.
 */

import type { TrainingArrays, UpdateSettings } from "../backend.js";
import { keepsStatistics, type Program } from "../../program/program.js";
import type { Machine } from "./planes.js";

export function updateParameters(program: Program, state: TrainingArrays, settings: UpdateSettings): void {
  for (const parameter of program.parameters) {
    if (parameter.offset >= program.trainedCount) continue;
    const range = { from: parameter.offset, to: parameter.offset + parameter.size };
    const weightDecay = parameter.decay ? settings.weightDecay : 0;
    const learningRate = settings.learningRate * parameter.rate;
    updateRange(state, range, { ...settings, learningRate, weightDecay });
  }
}

/** Momentum SGD over elements from .. to-1, all of them decaying by `weightDecay`. */
export function updateRange(
  { parameters, momentum, averages, gradients }: Omit<TrainingArrays, "statistics">,
  { from, to }: { readonly from: number; readonly to: number },
  settings: UpdateSettings,
): void {
  for (let i = from; i < to; i++) {
    const w = parameters[i] as number;
    const g = (gradients[i] as number) + settings.weightDecay * w;
    const a = settings.momentum * (momentum[i] as number) + g;
    const direction = settings.nesterov ? g + settings.momentum * a : a;
    const updated = w - settings.learningRate * direction;
    momentum[i] = a;
    parameters[i] = updated;
    averages[i] = settings.averageDecay * (averages[i] as number) + (1 - settings.averageDecay) * updated;
  }
}

/** [2 * planes]: what the last batch has in the place of moving means and variances, the variance times n / (n - 1). */
export function batchStatistics(machine: Machine): Float64Array {
  const { mean, variance } = machine.tables;
  const unbiased = variance.map((biased, plane) => {
    const n = machine.counts(plane);
    return (biased * n) / (n - 1);
  });
  return Float64Array.of(...mean, ...unbiased);
}

/** Moves the moving statistics towards the batch's; those of frozen planes stay, as all do that are kept. */
export function updateStatistics(
  { program, frozenPlanes }: Machine,
  statistics: Float32Array,
  ofBatch: Float64Array,
): void {
  if (keepsStatistics(program)) return;
  const { planes, batchNorm } = program;
  const rate = 1 - batchNorm.momentum;
  for (const half of [0, planes.length]) {
    for (let i = half + frozenPlanes; i < half + planes.length; i++) {
      const moving = statistics[i] as number;
      statistics[i] = moving - rate * (moving - (ofBatch[i] as number));
    }
  }
}

/** weightDecay * sum of w^2 / 2 over the parameters that train and decay. */
export function decayLoss(
  { parameters: table, trainedCount }: Program,
  parameters: Float32Array,
  weightDecay: number,
): number {
  let sum = 0;
  for (const { decay, offset, size } of table) {
    if (!decay || offset >= trainedCount) continue;
    for (const w of parameters.subarray(offset, offset + size)) sum += w * w;
  }
  return (weightDecay * sum) / 2;
}
