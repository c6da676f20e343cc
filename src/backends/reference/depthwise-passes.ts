/**
 * Depthwise 3x3 convolution, plane by plane, in f64.
 *
 *     z[n, r, c] = sum over ky, kx of W[ky, kx] * y[n, r*stride + ky - padTop, c*stride + kx - padLeft]
 *
 *     dW[ky, kx] = sum over n, r, c of dz[n, r, c] * y[n, ...]       dy[n, ...] += W[ky, kx] * dz[n, r, c]
 *
 * A tap outside the image counts as y = 0, whatever the plane's shift. W is [planes, 3, 3].
 */

import type { DepthwiseStep, WindowGeometry } from "../../program/program.js";
import { readNormalised, writeGradient, type Machine } from "./planes.js";

export function depthwiseForward(machine: Machine, step: DepthwiseStep, parameters: Float32Array): void {
  step.inputs.forEach((input, i) => {
    const y = readNormalised(machine, input);
    const z = machine.values[step.first + i] as Float64Array;
    z.fill(0);
    forEachTap(step.geometry, machine.images, (tap, out, at) => {
      z[out] = (z[out] as number) + (parameters[step.weights + 9 * i + tap] as number) * (y[at] as number);
    });
  });
}

/** @param dz gradient with respect to each output plane's z. */
export function depthwiseBackward(
  machine: Machine,
  step: DepthwiseStep,
  parameters: Float32Array,
  dz: readonly Float64Array[],
  gradients: Float32Array,
): void {
  step.inputs.forEach((input, i) => {
    const y = readNormalised(machine, input);
    const dy = new Float64Array(y.length);
    const dw = new Float64Array(9);
    const dzi = dz[i] as Float64Array;
    const weights = step.weights + 9 * i;
    forEachTap(step.geometry, machine.images, (tap, out, at) => {
      const d = dzi[out] as number;
      dw[tap] = (dw[tap] as number) + d * (y[at] as number);
      dy[at] = (dy[at] as number) + (parameters[weights + tap] as number) * d;
    });
    gradients.set(dw, weights);
    writeGradient(machine, input, dy, step.accumulates[i] as boolean);
  });
}

/**
 * Calls `visit(tap, out, at)` for every output position `out` and every tap 0 .. 8 (row-major) whose
 * input position `at` lies inside the image; both positions are into [images, height, width].
 */
export function forEachTap(
  w: WindowGeometry,
  images: number,
  visit: (tap: number, out: number, at: number) => void,
): void {
  for (let n = 0; n < images; n++) {
    for (let r = 0; r < w.outputHeight; r++) {
      for (let c = 0; c < w.outputWidth; c++) {
        const out = (n * w.outputHeight + r) * w.outputWidth + c;
        for (let ky = 0; ky < 3; ky++) {
          const y = r * w.stride + ky - w.padTop;
          if (y < 0 || y >= w.inputHeight) continue;
          for (let kx = 0; kx < 3; kx++) {
            const x = c * w.stride + kx - w.padLeft;
            if (x < 0 || x >= w.inputWidth) continue;
            visit(3 * ky + kx, out, (n * w.inputHeight + y) * w.inputWidth + x);
          }
        }
      }
    }
  }
}
