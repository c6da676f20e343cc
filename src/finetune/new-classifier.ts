/**
 * A new classifier, solved on features.
 *
 *     features of each picture in a few views --standardise--> rows --penalty, solve--> W, b --fold--> weight and bias in f32
 *
 * Standardised, all features count alike before the penalty; folded, the classifier reads them as the network has them.
 */

import type { HeadStep, Program } from "../program/program.js";
import type { SolvedClassifier } from "../run/checkpoint-state.js";
import type { Features } from "./feature-views.js";
import { choosePenalty, FOLDS, type Held, USUAL_PENALTY } from "./penalty.js";
import { type Rows, type Solution, solve } from "./softmax-regression.js";

/** The evaluation view, its mirror image, two crops. */
const MOST_VIEWS = 4;

/** Rows of features that are held in memory: 80 MB of 1,024. */
const MOST_ROWS = 20_000;

/** Multiply-adds of a pass over the rows, twice as many with its gradient: a quarter of a second. */
const MOST_WORK = 1.5e8;

/** The same of all folds at one penalty. */
const MOST_HELD_WORK = 2e7;

/** The same of all iterations at the penalty chosen, within these bounds. */
const SOLVING_WORK = 1e10;
const FEWEST_ITERATIONS = 500;
const MOST_ITERATIONS = 5000;

/** Below so many pictures a class, a part of a large set says less than all of it in training. */
const FEWEST_A_CLASS = 5;

/** What of a set is looked at. */
export interface Sample {
  /** Spread evenly. */
  readonly pictures: number;
  readonly views: number;
}

/** @returns undefined where classes are too many to solve for in good time */
export function sampleOf(pictures: number, classes: number, features: number): Sample | undefined {
  const rows = Math.min(MOST_ROWS, Math.floor(MOST_WORK / (classes * features)));
  if (pictures <= rows) return { pictures, views: Math.min(MOST_VIEWS, Math.floor(rows / pictures)) };
  return rows < FEWEST_A_CLASS * classes ? undefined : { pictures: rows, views: 1 };
}

/** Bytes that the features and their solution take. */
export function solvingMemory({ pictures, views }: Sample, classes: number, features: number): number {
  const pairs = 2 * 20 + 6;
  return 4 * pictures * views * features + 8 * pairs * classes * (features + 1);
}

export interface NewClassifier {
  /** [classes, features] */
  readonly weight: Float32Array;
  /** [classes]; empty where the network has none. */
  readonly bias: Float32Array;
  readonly says: SolvedClassifier;
}

interface SolvingOptions {
  /** Whether every class counts as much as another, however many pictures it has. */
  readonly balanced: boolean;
  /** That the features are of. */
  readonly views: number;
  /** Is awaited before every iteration; ends the work by throwing. */
  readonly pause: () => Promise<void>;
}

/** @param program of the network at hand, which ends in its classifier; the features' values are standardised in place */
export async function newClassifier(
  found: Features,
  program: Program,
  { balanced, views, pause }: SolvingOptions,
): Promise<NewClassifier> {
  const { classes, bias } = program.steps.at(-1) as HeadStep;
  const scaling = standardise(found, bias >= 0);
  const rows: Rows = {
    ...found,
    classes,
    weights: balanced ? balancedWeights(found, classes) : new Float64Array(found.labels.length).fill(1),
    biased: bias >= 0,
  };
  const held = heldOf(found, classes);
  const chosen = held === undefined ? undefined : await choosePenalty(rows, held, pause);
  const penalty = chosen?.penalty ?? USUAL_PENALTY;
  const { solution, converged } = await solve(rows, penalty, { pause, most: iterationsFor(rows) });
  return {
    ...fold(solution, scaling, classes),
    says: {
      pictures: found.plain,
      views,
      features: found.features,
      penalty,
      converged,
      held_out: chosen === undefined ? null : { pictures: chosen.scored, top1: chosen.right },
    },
  };
}

/** So many of a set, spread over it. */
export function evenly(size: number, pictures: number): number[] {
  return Array.from({ length: pictures }, (_, i) => Math.floor((i * size) / pictures));
}

/** As many as take some ten seconds, of large rows at least as many as nearly always are enough. */
function iterationsFor({ labels, features, classes }: Rows): number {
  const work = labels.length * features * classes;
  return Math.max(FEWEST_ITERATIONS, Math.min(MOST_ITERATIONS, Math.floor(SOLVING_WORK / work)));
}

/** Puts it where the program has its classifier. */
export function place(
  { weight, bias }: Pick<NewClassifier, "weight" | "bias">,
  program: Program,
  parameters: Float32Array,
): void {
  const head = program.steps.at(-1) as HeadStep;
  parameters.set(weight, head.weights);
  if (head.bias >= 0) parameters.set(bias, head.bias);
}

/** What each feature was made of: standardised = (feature - mean) / deviation. */
interface Scaling {
  readonly mean: Float64Array;
  readonly deviation: Float64Array;
}

/**
 * In place. Without biases means stay, for nothing could undo them. A feature that never varies becomes 0.
 */
function standardise({ features, values }: Features, biased: boolean): Scaling {
  const rows = values.length / features;
  const mean = new Float64Array(features);
  const deviation = new Float64Array(features);
  for (let i = 0; i < values.length; i++)
    mean[i % features] = (mean[i % features] as number) + (values[i] as number);
  for (let f = 0; f < features; f++) mean[f] = biased ? (mean[f] as number) / rows : 0;
  for (let i = 0; i < values.length; i++) {
    const f = i % features;
    deviation[f] = (deviation[f] as number) + ((values[i] as number) - (mean[f] as number)) ** 2;
  }
  for (let f = 0; f < features; f++) deviation[f] = Math.sqrt((deviation[f] as number) / rows) || Infinity;
  for (let i = 0; i < values.length; i++) {
    const f = i % features;
    values[i] = ((values[i] as number) - (mean[f] as number)) / (deviation[f] as number);
  }
  return { mean, deviation };
}

/** w (x - mean) / deviation + b = (w / deviation) x + (b - sum of w mean / deviation) */
function fold(
  solution: Solution,
  { mean, deviation }: Scaling,
  classes: number,
): Pick<NewClassifier, "weight" | "bias"> {
  const features = mean.length;
  const weight = new Float32Array(classes * features);
  const bias = new Float32Array(classes);
  for (let k = 0; k < classes; k++) {
    let shift = solution[classes * features + k] as number;
    for (let f = 0; f < features; f++) {
      const w = (solution[k * features + f] as number) / (deviation[f] as number);
      weight[k * features + f] = w;
      shift -= w * (mean[f] as number);
    }
    bias[k] = shift;
  }
  return { weight, bias };
}

/** Of each row as much as makes all classes that there are equal. */
function balancedWeights({ labels }: Features, classes: number): Float64Array {
  const counts = countsOf(labels, classes);
  return Float64Array.from(labels, (label) => 1 / (counts[label] as number));
}

function countsOf(labels: Int32Array, classes: number): Int32Array {
  const counts = new Int32Array(classes);
  for (const label of labels) counts[label] = (counts[label] as number) + 1;
  return counts;
}

/**
 * Each class is dealt to the folds in turn, a picture with all of its views; the view of evaluation is scored.
 *
 * @returns undefined where a class has but one picture, and so nothing to be known by while that is held out
 */
function heldOf({ labels, samples, plain, features }: Features, classes: number): Held | undefined {
  const counts = countsOf(labels.subarray(0, plain), classes);
  if (counts.some((count) => count === 1)) return undefined;
  const dealt = new Int32Array(classes);
  const foldOf = new Map<number, number>();
  for (let row = 0; row < plain; row++) {
    const label = labels[row] as number;
    foldOf.set(samples[row] as number, (dealt[label] as number) % FOLDS);
    dealt[label] = (dealt[label] as number) + 1;
  }
  const used = Math.floor(MOST_HELD_WORK / (labels.length * features * classes));
  return {
    folds: Uint8Array.from(samples, (sample) => foldOf.get(sample) as number),
    isScored: (row) => row < plain,
    used: Math.max(1, Math.min(FOLDS, used)),
  };
}
