/**
 * Global average, dropout, classifier, softmax cross-entropy, in f64.
 *
 *     f[n, i] = mask[n, i] * mean over pixels of y[i][n]        mask only in training, only with dropout
 *     logits[n, k] = bias[k] + sum over i of W[k, i] * f[n, i]
 *     p = softmax(logits)        target = (1 - s) * onehot(label) + s / classes      s = label smoothing
 *     crossEntropy = mean over n of -weight[n] * sum over k of target[n, k] * log p[n, k]
 *
 * Of a picture that is mixed of two, onehot(label) is share * onehot(label) + (1 - share) * onehot(other label). The mean is
 * over pictures whatever they weigh, so gradients of shards add. Without smoothing that is torch.nn.CrossEntropyLoss(weight)
 * but for its reduction, which divides by the weights' sum; with it, weights are of pictures, as Keras has them, and not of
 * the classes that a target is smoothed over.
 *
 *     dlogits = scale * weight * (p - target) / images        scale: the loss scale
 *     dlogits = scale * weight * onehot(label) / images          where gradients are of the labels' logits
 *     dW[k, i] = sum over n of dlogits[n, k] * f[n, i]
 *     dy[i][n, pixel] = mask[n, i] / pixels * sum over k of W[k, i] * dlogits[n, k]
 *
 * W is [classes, inputs].
 */

import type { Batch, LossSettings, StepResult } from "../backend.js";
import type { HeadStep } from "../../program/program.js";
import { planeOf, readNormalised, writeGradient, type Machine } from "./planes.js";

/** What the backward half and the caller need of the forward half. */
export interface HeadMemory {
  /** [images, inputs], after dropout. */
  readonly features: Float64Array;
  /** [images, classes] */
  readonly logits: Float64Array;
}

export interface LossAndGradient extends Pick<StepResult, "crossEntropy" | "correct1" | "correct5"> {
  /** [images, classes] */
  readonly dlogits: Float64Array;
}

/** @param mask [images, inputs], what each feature is multiplied by; absent without dropout. */
export function headForward(
  machine: Machine,
  step: HeadStep,
  parameters: Float32Array,
  mask: Float32Array | undefined,
): HeadMemory {
  const inputs = step.inputs.length;
  const features = new Float64Array(machine.images * inputs);
  step.inputs.forEach((input, i) => {
    const { pixels } = planeOf(machine, input);
    const y = readNormalised(machine, input);
    for (let n = 0; n < machine.images; n++) {
      let sum = 0;
      for (let p = 0; p < pixels; p++) sum += y[n * pixels + p] as number;
      features[n * inputs + i] = (sum / pixels) * (mask?.[n * inputs + i] ?? 1);
    }
  });
  const logits = new Float64Array(machine.images * step.classes);
  for (let n = 0; n < machine.images; n++) {
    for (let k = 0; k < step.classes; k++) {
      let sum = step.bias < 0 ? 0 : (parameters[step.bias + k] as number);
      for (let i = 0; i < inputs; i++) {
        sum += (parameters[step.weights + k * inputs + i] as number) * (features[n * inputs + i] as number);
      }
      logits[n * step.classes + k] = sum;
    }
  }
  return { features, logits };
}

/** What a loss wants of a batch. */
export type Targets = Omit<Batch, "images">;

/** @param logits [labels.length, classes] */
export function softmaxCrossEntropy(
  logits: Float64Array,
  { labels, weights, mixed }: Targets,
  { labelSmoothing, gradientOf }: Pick<LossSettings, "labelSmoothing" | "gradientOf">,
  scale = 1,
): LossAndGradient {
  const images = labels.length;
  const classes = logits.length / images;
  const dlogits = new Float64Array(logits.length);
  let crossEntropy = 0;
  let correct1 = 0;
  let correct5 = 0;
  labels.forEach((label, n) => {
    const row = logits.subarray(n * classes, (n + 1) * classes);
    const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const logSum = largest + Math.log(row.reduce((sum, v) => sum + Math.exp(v - largest), 0));
    const weight = weights?.[n] ?? 1;
    const share = mixed?.shares[n] ?? 1;
    const other = mixed?.labels[n] ?? label;
    row.forEach((value, k) => {
      const shown = (k === label ? share : 0) + (k === other ? 1 - share : 0);
      const target = shown * (1 - labelSmoothing) + labelSmoothing / classes;
      crossEntropy -= (weight * target * (value - logSum)) / images;
      const slope = gradientOf === "logit" ? shown : Math.exp(value - logSum) - target;
      dlogits[n * classes + k] = ((weight * slope) / images) * scale;
    });
    const rank = rankOf(row, label);
    if (rank.first) correct1++;
    if (rank.larger < 5) correct5++;
  });
  return { crossEntropy, correct1, correct5, dlogits };
}

export function headBackward(
  machine: Machine,
  step: HeadStep,
  parameters: Float32Array,
  { features }: HeadMemory,
  { dlogits }: LossAndGradient,
  mask: Float32Array | undefined,
  gradients: Float32Array,
): void {
  const inputs = step.inputs.length;
  const { classes } = step;
  for (let k = 0; k < classes; k++) {
    let dbias = 0;
    const dw = new Float64Array(inputs);
    for (let n = 0; n < machine.images; n++) {
      const d = dlogits[n * classes + k] as number;
      dbias += d;
      for (let i = 0; i < inputs; i++) dw[i] = (dw[i] as number) + d * (features[n * inputs + i] as number);
    }
    gradients.set(dw, step.weights + k * inputs);
    if (step.bias >= 0) gradients[step.bias + k] = dbias;
  }
  step.inputs.forEach((input, i) => {
    const { pixels } = planeOf(machine, input);
    const dy = new Float64Array(machine.images * pixels);
    for (let n = 0; n < machine.images; n++) {
      let sum = 0;
      for (let k = 0; k < classes; k++) {
        sum += (parameters[step.weights + k * inputs + i] as number) * (dlogits[n * classes + k] as number);
      }
      const factor = (mask?.[n * inputs + i] ?? 1) / pixels;
      dy.fill(sum * factor, n * pixels, (n + 1) * pixels);
    }
    writeGradient(machine, input, dy, false);
  });
}

/**
 * `first`: the label is the first of the largest logits. `larger`: how many logits exceed the label's, so
 * ties at the fifth place count as correct. A row that is not finite is never correct.
 *
 * Source: tf.math.in_top_k, "ties ... all of those classes are considered to be in the top k".
 */
function rankOf(row: Float64Array, label: number): { first: boolean; larger: number } {
  if (!row.every(Number.isFinite)) return { first: false, larger: Infinity };
  const own = row[label] as number;
  const larger = row.reduce((count, value) => count + (value > own ? 1 : 0), 0);
  return { first: larger === 0 && row.indexOf(own) === label, larger };
}
