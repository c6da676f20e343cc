/** Whether the moving statistics of weights from elsewhere fit the network's weights; moving-statistics.ts says what is done where not. */

import type { Weights } from "../backends/backend.js";
import type { Program } from "../program/program.js";
import type { Features } from "./feature-views.js";

/**
 * How far the mean of the features may be from what it should be, as a factor. It was 0.70 to 1.16 times that for torchvision's
 * weights on photographs and on drawn shapes of 32 and 224 px, below 0.04 or above 17 after 1 to 150 steps on shapes.
 */
const MOST_OFF = 8;

/**
 * Whether the last maps are as large as their batch norm says: what is normalised by its own mean and variance has the
 * distribution N(beta, gamma^2), as far as it is normal, and is cut off at 0. A network without statistics, which has 0 and
 * one variance everywhere, was made to be right with them, and fits.
 *
 * @param program that ends in the features (features.ts)
 */
export function statisticsFit(program: Program, weights: Weights, { values, features }: Features): boolean {
  const planes = program.kept[0]?.planes ?? [];
  const count = program.planes.length;
  const { parameters, statistics } = weights;
  const hasNone = statistics.every((value, i) => value === (i < count ? 0 : statistics[count]));
  if (hasNone) return true;
  const expected = planes.reduce((sum, plane) => {
    const { gamma, beta } = program.planes[plane] as Program["planes"][number];
    return sum + meanAboveZero(parameters[beta] as number, Math.abs(parameters[gamma] as number));
  }, 0);
  const seen = (values.reduce((sum, value) => sum + value, 0) / values.length) * features;
  return seen < MOST_OFF * expected && seen > expected / MOST_OFF;
}

/** The mean of max(0, x), x of N(mean, deviation^2). */
function meanAboveZero(mean: number, deviation: number): number {
  if (deviation === 0) return Math.max(0, mean);
  const u = mean / deviation;
  return deviation * (Math.exp((-u * u) / 2) / Math.sqrt(2 * Math.PI) + u * normalShare(u));
}

/** The share of a normal distribution below u deviations, to 1e-7. Source: Abramowitz and Stegun, 26.2.17. */
function normalShare(u: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(u));
  const series =
    t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const above = (Math.exp((-u * u) / 2) / Math.sqrt(2 * Math.PI)) * series;
  return u > 0 ? 1 - above : above;
}
