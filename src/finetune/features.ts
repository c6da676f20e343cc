/**
 * What the network sees in pictures: the numbers that its classifier is given, of every picture in a few views.
 *
 * Views are the one that evaluation takes, its mirror image where training mirrors, and the crops that training draws in its
 * first epochs, in this order. The network runs as it does in evaluation.
 */

import type { Backend, BackendOptions, Weights } from "../backends/backend.js";
import { closing } from "../core/closing.js";
import { Draws, streams } from "../core/random.js";
import type { Dataset } from "../data/dataset.js";
import { type BadImage, everyPicture, type LoadedBatch } from "../data/loader.js";
import {
  asItIs,
  type Augmentation,
  type EvaluationResize,
  evaluationTransform,
  type Picture,
  trainingTransform,
  type Transform,
} from "../data/pictures/augment.js";
import { imagesOf } from "../inference/evaluate.js";
import type { Network } from "../models/layers.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";

/** Features of pictures, a row for each view of each. */
export interface Features {
  /** In a row. */
  readonly features: number;
  /** [rows, features]: the mean of each map over its pixels. */
  readonly values: Float32Array;
  /** [rows] */
  readonly labels: Int32Array;
  /** [rows]: which picture of the set each row is of. */
  readonly samples: Uint32Array;
  /** Rows of the view that evaluation takes; they are the first. */
  readonly plain: number;
}

export interface FeatureOptions {
  readonly samples: readonly number[];
  readonly imageSize: number;
  readonly resize: EvaluationResize;
  readonly augmentation: Augmentation;
  /** How many of each picture, at most: as many as there are, where training varies them less. */
  readonly views: number;
  /** Of the crops. */
  readonly seed: number;
  readonly maxBadImages: number;
  readonly known: readonly BadImage[];
  /** Ends the work by throwing its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Hears of every batch: views of pictures done, and all. */
  readonly progress?: (done: number, total: number) => void;
}

/** Pictures that run at a time; the features do not depend on it. */
const BATCH = 32;

/** The program that ends in the features, and keeps them; the classifier behind them runs along. */
export function featureProgram(network: Network, imageSize: number): Program {
  return compile(network, { batch: BATCH, imageSize, mode: "infer", keep: [LAST_MAP] });
}

/** The layer whose maps the classifier reads the means of, in all variants. */
export const LAST_MAP = "conv5";

/** @throws TooManyBadImages, the signal's reason */
export async function featuresOf(
  backend: Backend,
  backendOptions: BackendOptions,
  program: Program,
  weights: Weights,
  dataset: Dataset,
  options: FeatureOptions,
): Promise<Features> {
  const { samples, signal, progress } = options;
  const features = program.kept[0]?.planes.length ?? 0;
  const views = viewsOf(options);
  const total = samples.length * views.length;
  const values = new Float32Array(total * features);
  const labels = new Int32Array(total);
  const of = new Uint32Array(total);
  let rows = 0;
  let plain = 0;
  const run = backend.infer(program, backendOptions);
  return closing(async (atEnd) => {
    atEnd(() => run.close());
    await run.load(weights);
    const take = async (batch: LoadedBatch): Promise<void> => {
      signal?.throwIfAborted();
      await run.infer(imagesOf(batch, program), batch.count);
      meansInto(values.subarray(rows * features), run.kept(LAST_MAP), batch.count * features);
      labels.set(batch.labels.subarray(0, batch.count), rows);
      of.set(batch.samples.subarray(0, batch.count), rows);
      rows += batch.count;
      progress?.(rows, total);
    };
    for (const [i, view] of views.entries()) {
      const source = everyPicture(dataset, { ...options, batch: BATCH, samples, transform: view });
      atEnd(() => source.close());
      for await (const batch of source) {
        await take(batch);
        batch.release();
      }
      if (i === 0) plain = rows;
    }
    return {
      features,
      values: values.subarray(0, rows * features),
      labels: labels.subarray(0, rows),
      samples: of.subarray(0, rows),
      plain,
    };
  });
}

type View = (sample: number, picture: Picture, isOfSize: boolean) => Transform;

/** The view of evaluation first. */
function viewsOf({ resize, imageSize, augmentation, views, seed }: FeatureOptions): View[] {
  const plain: View = (_, picture, isOfSize) =>
    isOfSize ? asItIs(imageSize) : evaluationTransform(resize, picture, imageSize);
  const mirrored: View = (...of) => ({ ...plain(...of), flip: true });
  const drawn = Array.from(
    { length: augmentation.crop === "centre" ? 0 : views },
    (_, epoch): View =>
      (sample, picture) =>
        trainingTransform(augmentation, picture, imageSize, new Draws(seed, streams.augment, epoch, sample)),
  );
  return [plain, ...(augmentation.flip > 0 ? [mirrored] : []), ...drawn].slice(0, views);
}

/** The mean of each of `count` maps, which lie one after the other. */
function meansInto(out: Float32Array, maps: Float32Array, count: number): void {
  const pixels = maps.length / count;
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let p = 0; p < pixels; p++) sum += maps[i * pixels + p] as number;
    out[i] = sum / pixels;
  }
}
