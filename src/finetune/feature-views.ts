/**
 * Features of pictures, and the views that they are computed of (features.ts computes them for a set of pictures): the one that
 * evaluation takes, its mirror image where training mirrors, and the crops that training draws in its first epochs, in this order.
 */

import { Draws, streams } from "../core/random.js";
import {
  asItIs,
  type Augmentation,
  type EvaluationResize,
  evaluationTransform,
  type Picture,
  trainingTransform,
  type Transform,
} from "../data/pictures/augment.js";
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

export interface ViewOptions {
  readonly imageSize: number;
  readonly resize: EvaluationResize;
  readonly augmentation: Augmentation;
  /** How many of each picture, at most: as many as there are, where training varies them less. */
  readonly views: number;
  /** Of the crops. */
  readonly seed: number;
}

/** Pictures that run at a time; the features do not depend on it. */
export const BATCH = 32;

/** The program that ends in the features, and keeps them; the classifier behind them runs along. */
export function featureProgram(network: Network, imageSize: number): Program {
  return compile(network, { batch: BATCH, imageSize, mode: "infer", keep: [LAST_MAP] });
}

/** The layer whose maps the classifier reads the means of, in all variants. */
export const LAST_MAP = "conv5";

export type View = (sample: number, picture: Picture, isOfSize: boolean) => Transform;

/** The view of evaluation first. */
export function viewsOf({ resize, imageSize, augmentation, views, seed }: ViewOptions): View[] {
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
export function meansInto(out: Float32Array, maps: Float32Array, count: number): void {
  const pixels = maps.length / count;
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let p = 0; p < pixels; p++) sum += maps[i * pixels + p] as number;
    out[i] = sum / pixels;
  }
}
