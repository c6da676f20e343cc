/**
 * Batch normalisation of one plane, forward and backward, in f64.
 *
 *     mean = sum z / n          variance = sum (z - mean)^2 / n           (biased; n = images x pixels)
 *     rstd = 1 / sqrt(variance + epsilon)
 *     scale = gamma * rstd      shift = beta - mean * scale
 *
 * The plane keeps z; readers apply scale and shift. Backward, with g the gradient with respect to
 * scale*z + shift and zhat = (z - mean) * rstd:
 *
 *     dbeta = sum g     dgamma = sum g * zhat     dz = scale * (g - dbeta / n - zhat * dgamma / n)
 *
 * By the moving statistics, which do not depend on z, dz = scale * g.
 *
 * Source: Ioffe and Szegedy, "Batch Normalization" (2015), section 3.
 */

import type { Weights } from "../backend.js";
import { keepsStatistics, type Plane, type PlaneId } from "../../program/program.js";
import type { Machine } from "./planes.js";

/** Statistics of a whole convolution output z, and what its readers need, into the tables. */
export function normaliseByBatch(machine: Machine, plane: PlaneId, z: Float64Array, weights: Weights): void {
  let sum = 0;
  for (const value of z) sum += value;
  const mean = sum / z.length;
  let squares = 0;
  for (const value of z) squares += (value - mean) ** 2;
  setStatistics(machine, plane, weights, { mean, variance: squares / z.length });
}

/** Scale and shift from the moving statistics. */
export function normaliseByMoving(machine: Machine, plane: PlaneId, weights: Weights): void {
  setStatistics(machine, plane, weights, {
    mean: weights.statistics[plane] as number,
    variance: weights.statistics[machine.program.planes.length + plane] as number,
  });
}

/** dgamma and dbeta of a plane, from the sums that the last writer of its gradient left. */
export function batchNormGradients(machine: Machine, plane: PlaneId): { dgamma: number; dbeta: number } {
  const { mean, gradientSum, gradientDot } = machine.tables;
  const dbeta = gradientSum[plane] as number;
  const dgamma = ((gradientDot[plane] as number) - (mean[plane] as number) * dbeta) * rstd(machine, plane);
  return { dgamma, dbeta };
}

/**
 * dz of a whole convolution output z, given the gradient g at each of its values.
 *
 * For most planes z and g are the plane's own; the stem's are those before pooling.
 */
export function convolutionGradient(
  machine: Machine,
  plane: PlaneId,
  z: Float64Array,
  g: Float64Array,
): Float64Array {
  const { dgamma, dbeta } = batchNormGradients(machine, plane);
  const mean = machine.tables.mean[plane] as number;
  const scale = machine.tables.scale[plane] as number;
  const r = rstd(machine, plane);
  const n = machine.counts(plane);
  if (keepsStatistics(machine.program)) return g.map((value) => scale * value);
  const dz = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const zhat = ((z[i] as number) - mean) * r;
    dz[i] = scale * ((g[i] as number) - dbeta / n - (zhat * dgamma) / n);
  }
  return dz;
}

function setStatistics(
  { program, tables }: Machine,
  plane: PlaneId,
  { parameters }: Weights,
  { mean, variance }: { readonly mean: number; readonly variance: number },
): void {
  const { gamma: gammaAt, beta: betaAt } = program.planes[plane] as Plane;
  const gamma = parameters[gammaAt] as number;
  const beta = parameters[betaAt] as number;
  const scale = gamma / Math.sqrt(variance + program.batchNorm.epsilon);
  tables.mean[plane] = mean;
  tables.variance[plane] = variance;
  tables.scale[plane] = scale;
  tables.shift[plane] = beta - mean * scale;
}

function rstd({ program, tables }: Machine, plane: PlaneId): number {
  return 1 / Math.sqrt((tables.variance[plane] as number) + program.batchNorm.epsilon);
}
