/**
 * 1x1 convolution over planes, in f64.
 *
 *     z[o] = sum over i of W[o, i] * y[i]                 one plane at a time, y normalised by its reader
 *
 *     dW[o, i] = sum over pixels of dz[o] * y[i]          dy[i] = sum over o of W[o, i] * dz[o]
 *
 * Input and output planes have one size; W is [count, inputs]. Of planes in bf16, W, y and dz are rounded to bf16 before they
 * are multiplied.
 */

import type { PointwiseStep } from "../../program/program.js";
import { planeOf, readNormalised, roundingOf, writeGradient, type Machine } from "./planes.js";

export function pointwiseForward(machine: Machine, step: PointwiseStep, parameters: Float32Array): void {
  const length = machine.images * planeOf(machine, step.first).pixels;
  for (let o = 0; o < step.count; o++) machine.values[step.first + o]?.fill(0);
  const factor = roundingOf(machine, step.first);
  step.inputs.forEach((input, i) => {
    const y = readNormalised(machine, input).map(factor);
    for (let o = 0; o < step.count; o++) {
      const w = factor(parameters[step.weights + o * step.inputs.length + i] as number);
      const z = machine.values[step.first + o] as Float64Array;
      for (let p = 0; p < length; p++) z[p] = (z[p] as number) + w * (y[p] as number);
    }
  });
}

/** @param dz gradient with respect to each output plane's z. */
export function pointwiseBackward(
  machine: Machine,
  step: PointwiseStep,
  parameters: Float32Array,
  dz: readonly Float64Array[],
  gradients: Float32Array,
): void {
  const factor = roundingOf(machine, step.first);
  const factors = dz.map((dzo) => dzo.map(factor));
  step.inputs.forEach((input, i) => {
    const y = readNormalised(machine, input).map(factor);
    const dy = new Float64Array(y.length);
    factors.forEach((dzo, o) => {
      const at = step.weights + o * step.inputs.length + i;
      const w = factor(parameters[at] as number);
      let dw = 0;
      for (let p = 0; p < y.length; p++) {
        const d = dzo[p] as number;
        dw += d * (y[p] as number);
        dy[p] = (dy[p] as number) + w * d;
      }
      gradients[at] = dw;
    });
    writeGradient(machine, input, dy, step.accumulates[i] as boolean);
  });
}
