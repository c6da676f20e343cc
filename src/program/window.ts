/**
 * Where a 3x3 window lands: convolutions and pooling ask this file, so no two of them disagree about a border pixel.
 *
 * Sizes are in pixels.
 */

import type { Padding } from "../models/layers.js";
import { check } from "./program-error.js";
import type { WindowGeometry } from "./program.js";

/** A 3x3 window on a square map of `size` pixels a side. */
export function windowGeometry(size: number, stride: 1 | 2, padding: Padding): WindowGeometry {
  const output = Math.ceil(size / stride);
  const total = Math.max((output - 1) * stride + 3 - size, 0);
  const before = padding === "one" ? 1 : Math.floor(total / 2);
  return {
    inputHeight: size,
    inputWidth: size,
    outputHeight: output,
    outputWidth: output,
    stride,
    padTop: before,
    padLeft: before,
  };
}

/** Every output pixel's window begins at most one pixel outside and touches the input. */
export function verifyWindow(name: string, w: WindowGeometry): void {
  const fits = (input: number, output: number, pad: number): boolean =>
    output >= 1 &&
    pad >= 0 &&
    pad <= 1 &&
    (output - 1) * w.stride - pad < input &&
    Math.ceil(input / w.stride) === output;
  check(
    fits(w.inputHeight, w.outputHeight, w.padTop),
    `"${name}": rows ${w.inputHeight} -> ${w.outputHeight} do not fit`,
  );
  check(
    fits(w.inputWidth, w.outputWidth, w.padLeft),
    `"${name}": columns ${w.inputWidth} -> ${w.outputWidth} do not fit`,
  );
}

export function printWindow(w: WindowGeometry): string {
  return `${inputSize(w)}/${w.stride} pad ${w.padTop},${w.padLeft}`;
}

/** In the order in which native/runtime/program.cc reads it. */
export function encodeWindow(w: WindowGeometry): number[] {
  return [w.inputHeight, w.inputWidth, w.outputHeight, w.outputWidth, w.stride, w.padTop, w.padLeft];
}

export function inputSize(w: WindowGeometry): string {
  return `${w.inputHeight}x${w.inputWidth}`;
}

export function outputSize(w: WindowGeometry): string {
  return `${w.outputHeight}x${w.outputWidth}`;
}
