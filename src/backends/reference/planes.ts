/**
 * What the steps of the reference backend work on: every plane's values, its gradient and its tables, in f64.
 *
 * Nothing is shared or reused between planes (the program's memory plan is for fast backends), so after a
 * step everything can still be looked at.
 *
 * A plane is [batch, height, width], contiguous. Only the first `images` images of it are in use.
 */

import { toBf16 } from "../../core/bf16.js";
import type { PlaneView } from "../backend.js";
import { firstTraining, type Plane, type PlaneId, type Program } from "../../program/program.js";

/**
 * mean and variance (biased) of the batch, scale and shift for readers, gradientSum = sum of g and
 * gradientDot = sum of g * z over a plane, as the last writer of g left them.
 */
export type Table = "mean" | "variance" | "scale" | "shift" | "gradientSum" | "gradientDot";

export interface Machine {
  readonly program: Program;
  /** Planes below this number were written by frozen steps: they have no gradient, and their statistics stay. */
  readonly frozenPlanes: number;
  /** Images in use, 1 .. program.batch. */
  images: number;
  /** Raw convolution outputs z. */
  readonly values: readonly Float64Array[];
  /** Gradients with respect to scale*z + shift, masked by the ReLU. */
  readonly gradients: readonly Float64Array[];
  readonly tables: Readonly<Record<Table, Float64Array>>;
  /** What normalisation of plane p's batch counts: values of the whole convolution output, pooled or not. */
  readonly counts: (plane: PlaneId) => number;
}

export function createMachine(program: Program): Machine {
  const { planes, batch } = program;
  const allocate = (): Float64Array[] => planes.map((p) => new Float64Array(batch * p.height * p.width));
  const table = (): Float64Array => new Float64Array(planes.length);
  const machine: Machine = {
    program,
    frozenPlanes: program.steps[firstTraining(program)]?.first ?? planes.length,
    images: batch,
    values: allocate(),
    gradients: program.mode === "train" ? allocate() : [],
    tables: {
      mean: table(),
      variance: table(),
      scale: table(),
      shift: table(),
      gradientSum: table(),
      gradientDot: table(),
    },
    counts: (plane) => machine.images * pixelsBehind(program, plane),
  };
  return machine;
}

/** A plane and its number of pixels (of one image). */
export function planeOf(machine: Machine, plane: PlaneId): Plane & { readonly pixels: number } {
  const found = machine.program.planes[plane] as Plane;
  return { ...found, pixels: found.height * found.width };
}

/** What storing a number in a plane does to it. */
export function roundingOf({ program }: Machine, plane: PlaneId): (x: number) => number {
  return program.planes[plane]?.storage === "bf16" ? toBf16 : (x) => x;
}

/** What a plane holds once its z is stored. */
export function storeValues(machine: Machine, plane: PlaneId): void {
  const values = machine.values[plane] as Float64Array;
  const round = roundingOf(machine, plane);
  for (let i = 0; i < values.length; i++) values[i] = round(values[i] as number);
}

/** y = relu?(scale * z + shift) of a plane, as its readers see it: [images, height, width]. */
export function readNormalised(machine: Machine, plane: PlaneId): Float64Array {
  const { pixels, relu } = planeOf(machine, plane);
  const z = machine.values[plane] as Float64Array;
  const scale = machine.tables.scale[plane] as number;
  const shift = machine.tables.shift[plane] as number;
  const y = new Float64Array(machine.images * pixels);
  for (let i = 0; i < y.length; i++) {
    const value = scale * (z[i] as number) + shift;
    y[i] = relu && value <= 0 ? 0 : value;
  }
  return y;
}

/**
 * Hands dy, the gradient with respect to a plane's y, to the plane: masked by the ReLU (0 where
 * scale*z + shift <= 0, as PyTorch and TensorFlow choose), written or added. Then
 *
 *     gradientSum = sum of g,   gradientDot = sum of g * z
 *
 * A frozen plane takes none.
 */
export function writeGradient(
  machine: Machine,
  plane: PlaneId,
  dy: Float64Array,
  accumulates: boolean,
): void {
  if (plane < machine.frozenPlanes) return;
  const { relu } = planeOf(machine, plane);
  const z = machine.values[plane] as Float64Array;
  const g = machine.gradients[plane] as Float64Array;
  const scale = machine.tables.scale[plane] as number;
  const shift = machine.tables.shift[plane] as number;
  const round = roundingOf(machine, plane);
  let sum = 0;
  let dot = 0;
  for (let i = 0; i < dy.length; i++) {
    const passes = !relu || scale * (z[i] as number) + shift > 0;
    const value = (accumulates ? (g[i] as number) : 0) + (passes ? (dy[i] as number) : 0);
    g[i] = round(value);
    sum += value;
    dot += value * (z[i] as number);
  }
  machine.tables.gradientSum[plane] = sum;
  machine.tables.gradientDot[plane] = dot;
}

/** Pixels of one image over which a plane's statistics are taken: the stem's before pooling. */
function pixelsBehind({ steps, planes }: Program, plane: PlaneId): number {
  const stem = steps.find(
    (step) => step.kind === "stem" && plane >= step.first && plane < step.first + step.count,
  );
  if (stem?.kind === "stem") return stem.convolution.outputHeight * stem.convolution.outputWidth;
  const { height, width } = planes[plane] as Plane;
  return height * width;
}

/** A map as its readers see it, normalised and, where they do, clipped, or its z or g: [images, planes, height, width]. */
export function readMap(
  machine: Machine,
  planes: readonly PlaneId[],
  view: PlaneView = "normalised",
): Float32Array {
  const { pixels } = planeOf(machine, planes[0] as PlaneId);
  const map = new Float32Array(machine.images * planes.length * pixels);
  planes.forEach((plane, channel) => {
    const y =
      view === "normalised"
        ? readNormalised(machine, plane)
        : (machine[view === "value" ? "values" : "gradients"][plane] as Float64Array);
    for (let n = 0; n < machine.images; n++)
      map.set(y.subarray(n * pixels, (n + 1) * pixels), (n * planes.length + channel) * pixels);
  });
  return map;
}
