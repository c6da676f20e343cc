/**
 * The moving statistics of weights from elsewhere: whether they fit the network's weights, and new ones where they do not.
 *
 * Of a network that was trained for few steps they are mostly what they began as, 0 and 1. Normalised by them maps vanish
 * or explode from layer to layer: in features that are 1e-3 or 1e5 of what they should be a solved classifier has weights as
 * far off the other way, and the first step after it diverges.
 */

import type { Backend, BackendOptions, Weights } from "../backends/backend.js";
import { closing } from "../core/closing.js";
import type { Dataset } from "../data/dataset.js";
import { type BadImage, trainingBatches } from "../data/loader.js";
import type { Augmentation } from "../data/pictures/augment.js";
import { compile } from "../program/compile.js";
import type { Network } from "../models/layers.js";
import type { Program } from "../program/program.js";
import type { Features } from "./features.js";

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

export interface MeasureOptions {
  /** Of a step that measures. */
  readonly batch: number;
  readonly imageSize: number;
  readonly augmentation: Augmentation;
  readonly seed: number;
  readonly maxBadImages: number;
  readonly known: readonly BadImage[];
  readonly signal?: AbortSignal | undefined;
  /** Hears of every batch: pictures done, and all. */
  readonly progress?: (done: number, total: number) => void;
}

/** Pictures that are measured, about: an epoch of a small set, some batches of a large one. */
const PICTURES = 256;

/**
 * The mean over batches of what batch norms find in each: moving statistics that began at 0, divided by what of them moved.
 *
 * @returns undefined where a batch makes numbers that are not finite
 * @throws TooManyBadImages, the signal's reason
 */
export async function measureStatistics(
  backend: Backend,
  backendOptions: BackendOptions,
  network: Network,
  parametersOf: (program: Program) => Promise<Float32Array>,
  dataset: Dataset,
  { batch, signal, progress, ...options }: MeasureOptions,
): Promise<Float32Array | undefined> {
  const program = compile(network, { batch, imageSize: options.imageSize, mode: "train" });
  const source = trainingBatches(dataset, { ...options, batch, firstStep: 0, shuffle: true });
  return closing(async (atEnd) => {
    atEnd(() => source.close());
    const run = backend.train(program, backendOptions);
    atEnd(() => run.close());
    const state = await run.readState();
    state.parameters.set(await parametersOf(program));
    state.statistics.fill(0);
    await run.writeState(state);
    const steps = Math.ceil(PICTURES / batch);
    let made = 0;
    for await (const loaded of source) {
      signal?.throwIfAborted();
      const { images, labels } = loaded;
      const { finite } = await run.step({ images, labels }, UNPENALISED, UNCHANGED);
      loaded.release();
      if (!finite) return undefined;
      made++;
      progress?.(made * batch, steps * batch);
      if (made === steps) break;
    }
    const { statistics } = await run.readState();
    const moved = 1 - program.batchNorm.momentum ** steps;
    return statistics.map((value) => value / moved);
  });
}

const UNPENALISED = { labelSmoothing: 0, weightDecay: 0 };

/** A step that moves the statistics alone. */
const UNCHANGED = { learningRate: 0, momentum: 0, nesterov: false, weightDecay: 0, averageDecay: 0 };
