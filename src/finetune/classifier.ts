/**
 * A new classifier for a network whose weights come from elsewhere, solved on its features before the first step.
 * new-classifier.ts solves it.
 *
 * The result is a function of the weights, the pictures and the seed: the number of threads does not change a bit.
 */

import { setImmediate } from "node:timers/promises";

import type { Backend, BackendOptions, Weights } from "../backends/backend.js";
import type { Dataset } from "../data/dataset.js";
import type { Program } from "../program/program.js";
import { type FeatureOptions, featuresOf } from "./features.js";
import { evenly, newClassifier, type NewClassifier, type Sample } from "./new-classifier.js";

export interface ClassifierOptions extends Omit<FeatureOptions, "samples" | "views" | "progress"> {
  readonly sample: Sample;
  /** Whether every class counts as much as another, however many pictures it has. */
  readonly balanced: boolean;
  /** Hears of views of pictures done, then that it is being solved, and is. */
  readonly progress?: (what: "features" | "solving", done: number, total: number) => void;
}

/**
 * @param program of the network at hand, as features.ts makes it
 * @throws TooManyBadImages, the signal's reason
 */
export async function solveClassifier(
  backend: Backend,
  backendOptions: BackendOptions,
  program: Program,
  weights: Weights,
  dataset: Dataset,
  options: ClassifierOptions,
): Promise<NewClassifier> {
  const { sample, balanced, signal, progress } = options;
  const found = await featuresOf(backend, backendOptions, program, weights, dataset, {
    ...options,
    samples: evenly(dataset.size, sample.pictures),
    views: sample.views,
    progress: (done, total) => progress?.("features", done, total),
  });
  const pause = async (): Promise<void> => {
    await setImmediate();
    signal?.throwIfAborted();
  };
  progress?.("solving", 0, 1);
  const made = await newClassifier(found, program, { balanced, views: sample.views, pause });
  progress?.("solving", 1, 1);
  return made;
}
