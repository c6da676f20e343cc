/**
 * The moving statistics of weights from elsewhere: whether they fit the network's weights, and new ones where they do not.
 *
 * Of a network that was trained for few steps they are mostly what they began as, 0 and 1. Normalised by them maps vanish
 * or explode from layer to layer: in features that are 1e-3 or 1e5 of what they should be a solved classifier has weights as
 * far off the other way, and the first step after it diverges.
 */

import type { Backend, BackendOptions } from "../backends/backend.js";
import { closing } from "../core/closing.js";
import type { Dataset } from "../data/dataset.js";
import { type BadImage, trainingBatches } from "../data/loader.js";
import type { Augmentation } from "../data/pictures/augment.js";
import { compile } from "../program/compile.js";
import type { Network } from "../models/layers.js";
import type { Program } from "../program/program.js";

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
