/**
 * The stem, computed plainly in f64: convolution of the picture, batch statistics, pooling of winners.
 *
 *     x[n, i, r, c] = inputScale[c'] * byte[n, r, c, c'] + inputShift[c'],   c' = channelOrder[i]
 *     z[o] = 3x3 stride-2 convolution of x with W[o]          statistics over all of z[o]
 *     plane[o] = z[o] at the winner of each 3x3 stride-2 window: the largest z (smallest under a negative scale), the first when equal
 *
 * A tap outside counts as x = 0 when convolving and does not take part when pooling. W is [count, 3, 3, 3].
 *
 * Backward, a winner hands its plane's g back to its position; positions that never won have g = 0, but
 * batch norm makes dz nonzero everywhere.
 */

import type { Weights } from "../backend.js";
import type { StemStep } from "../../program/program.js";
import { convolutionGradient, normaliseByBatch } from "./batch-norm.js";
import { forEachTap } from "./depthwise-passes.js";
import { planeOf, storeValues, type Machine } from "./planes.js";

/** What the backward half needs of the forward half. */
export interface StemMemory {
  /** Per network input channel: [images, height, width]. */
  readonly input: readonly Float64Array[];
  /** Per output plane: the whole convolution output. */
  readonly z: readonly Float64Array[];
  /** Per output plane and pooled position: where in z its winner stands. */
  readonly winners: readonly Int32Array[];
}

/** @param images [n, size, size, 3] RGB bytes. */
export function stemForward(
  machine: Machine,
  step: StemStep,
  images: Uint8Array,
  weights: Weights,
): StemMemory {
  const input = step.channelOrder.map((channel) => readChannel(machine, step, images, channel));
  const z: Float64Array[] = [];
  const winners: Int32Array[] = [];
  for (let o = 0; o < step.count; o++) {
    const plane = step.first + o;
    const whole = convolve(machine, step, input, weights.parameters, o);
    if (step.statistics === "batch") normaliseByBatch(machine, plane, whole, weights);
    const won = findWinners(machine, step, whole, machine.tables.scale[plane] as number);
    const values = machine.values[plane] as Float64Array;
    won.forEach((at, position) => (values[position] = whole[at] as number));
    storeValues(machine, plane);
    z.push(whole);
    winners.push(won);
  }
  return { input, z, winners };
}

export function stemBackward(
  machine: Machine,
  step: StemStep,
  memory: StemMemory,
  gradients: Float32Array,
): void {
  for (let o = 0; o < step.count; o++) {
    const plane = step.first + o;
    const whole = memory.z[o] as Float64Array;
    const pooled = machine.gradients[plane] as Float64Array;
    const g = new Float64Array(whole.length);
    (memory.winners[o] as Int32Array).forEach((at, position) => {
      g[at] = (g[at] as number) + (pooled[position] as number);
    });
    const dz = convolutionGradient(machine, plane, whole, g);
    memory.input.forEach((x, i) => {
      const dw = new Float64Array(9);
      forEachTap(step.convolution, machine.images, (tap, out, at) => {
        dw[tap] = (dw[tap] as number) + (dz[out] as number) * (x[at] as number);
      });
      gradients.set(dw, step.weights + (o * 3 + i) * 9);
    });
  }
}

/** One image channel as the network reads it. */
function readChannel(machine: Machine, step: StemStep, images: Uint8Array, channel: number): Float64Array {
  const scale = step.inputScale[channel] as number;
  const shift = step.inputShift[channel] as number;
  const { inputHeight, inputWidth } = step.convolution;
  const x = new Float64Array(machine.images * inputHeight * inputWidth);
  for (let i = 0; i < x.length; i++) x[i] = scale * (images[3 * i + channel] as number) + shift;
  return x;
}

/** z of output channel o. */
function convolve(
  machine: Machine,
  step: StemStep,
  input: readonly Float64Array[],
  parameters: Float32Array,
  o: number,
): Float64Array {
  const { outputHeight, outputWidth } = step.convolution;
  const z = new Float64Array(machine.images * outputHeight * outputWidth);
  input.forEach((x, i) => {
    const weights = step.weights + (o * 3 + i) * 9;
    forEachTap(step.convolution, machine.images, (tap, out, at) => {
      z[out] = (z[out] as number) + (parameters[weights + tap] as number) * (x[at] as number);
    });
  });
  return z;
}

/**
 * Per pooled position: where the largest scale*z of its window stands, the first in row-major order. A scale of zero
 * counts as positive.
 */
function findWinners(machine: Machine, step: StemStep, z: Float64Array, scale: number): Int32Array {
  const { pixels } = planeOf(machine, step.first);
  const sign = scale < 0 ? -1 : 1;
  const winners = new Int32Array(machine.images * pixels).fill(-1);
  forEachTap(step.pooling, machine.images, (_, out, at) => {
    const best = winners[out] as number;
    if (best < 0 || sign * (z[at] as number) > sign * (z[best] as number)) winners[out] = at;
  });
  return winners;
}
