/**
 * A new classifier, solved on features.
 *
 *     features of each picture in a few views --space--> rows --penalty, solve--> W, b --fold--> weight and bias in f32
 *
 * The penalty decides between classifiers that fit alike, and what it measures depends on the space. There are two: standardised
 * features, all of which count alike, and what the classifier that the weights came with says of them, whose directions told
 * things apart before. The one whose classifiers predict pictures better that they were not fitted to is used
 * (docs/adr/0020-solving-in-the-earlier-classifiers-space.md). Folded, the classifier reads features as the network has them.
 */

import type { HeadStep, Program } from "../program/program.js";
import type { SolvedClassifier } from "../run/checkpoint-state.js";
import type { Features } from "./feature-views.js";
import { choosePenalty, FOLDS, type Held, USUAL_PENALTY } from "./penalty.js";
import { addRow, type Rows, rowTimes, type Solution, solve } from "./softmax-regression.js";

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

/** Multiply-adds of the earlier classifier over the rows: some four seconds. Of more pictures it has less to say. */
const MOST_EARLIER_WORK = 4e9;

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
  const earlier = 4 * Math.floor(MOST_EARLIER_WORK / features);
  return 4 * pictures * views * features + earlier + 8 * pairs * classes * (features + 1);
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
  /** The classifier that the weights came with, [its outputs, features]. */
  readonly earlier?: Float32Array | undefined;
  /** Is awaited before every iteration; ends the work by throwing. */
  readonly pause: () => Promise<void>;
}

/** @param program of the network at hand, which ends in its classifier; the features' values are standardised in place */
export async function newClassifier(
  found: Features,
  program: Program,
  { balanced, views, earlier, pause }: SolvingOptions,
): Promise<NewClassifier> {
  const { classes, bias } = program.steps.at(-1) as HeadStep;
  const biased = bias >= 0;
  const others = outputSpaces(found, earlier, biased); // first: features are standardised in place
  const spaces = [featureSpace(found, biased), ...others];
  const counts = balanced ? balancedWeights(found, classes) : new Float64Array(found.labels.length).fill(1);
  const rowsIn = ({ width, values }: Space, count = found.labels.length): Rows => ({
    features: width,
    values: values.subarray(0, count * width),
    labels: found.labels.subarray(0, count),
    classes,
    weights: counts.subarray(0, count),
    biased,
  });
  let [space] = spaces as [Space];
  if (spaces.length > 1) {
    // By one view of each picture, so that there is time to hold all of them out: a few pictures would decide by chance.
    const labels = found.labels.subarray(0, found.plain);
    const samples = found.samples.subarray(0, found.plain);
    const held = heldOf({ ...found, labels, samples }, classes);
    let least = Infinity;
    for (const each of held === undefined ? [] : spaces) {
      const { loss } = await choosePenalty(rowsIn(each, found.plain), held as Held, pause);
      if (loss < least) [space, least] = [each, loss];
    }
  }
  const rows = rowsIn(space);
  const held = heldOf(found, classes);
  const chosen = held === undefined ? undefined : await choosePenalty(rows, held, pause);
  const penalty = chosen?.penalty ?? USUAL_PENALTY;
  const { solution, converged } = await solve(rows, penalty, { pause, most: iterationsFor(rows) });
  return {
    ...space.fold(solution, classes),
    says: {
      pictures: found.plain,
      views,
      features: found.features,
      space: space.name,
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

/** Numbers that stand for pictures, and what a classifier of them is to the features. */
interface Space {
  readonly name: SolvedClassifier["space"] & string;
  /** Of a row. */
  readonly width: number;
  /** [rows, width] */
  readonly values: Float32Array;
  readonly fold: (solution: Solution, classes: number) => Pick<NewClassifier, "weight" | "bias">;
}

/**
 * (feature - mean) / deviation, in place. Without biases means stay, for nothing could undo them. A feature that never varies
 * becomes 0.
 */
function featureSpace({ features, values }: Features, biased: boolean): Space {
  const mean = meansOf(values, features, biased);
  const deviation = new Float64Array(features);
  for (let i = 0; i < values.length; i++) {
    const f = i % features;
    deviation[f] = (deviation[f] as number) + ((values[i] as number) - (mean[f] as number)) ** 2;
  }
  const rows = values.length / features;
  for (let f = 0; f < features; f++) deviation[f] = Math.sqrt((deviation[f] as number) / rows) || Infinity;
  for (let i = 0; i < values.length; i++) {
    const f = i % features;
    values[i] = ((values[i] as number) - (mean[f] as number)) / (deviation[f] as number);
  }
  return {
    name: "features",
    width: features,
    values,
    fold: (solution, classes) => {
      const { weight, bias } = unscaled(solution, classes, mean, deviation);
      return { weight: Float32Array.from(weight), bias };
    },
  };
}

/** None where there is no earlier classifier, or more rows than it can be asked about in good time. */
function outputSpaces(
  { features, values }: Features,
  earlier: Float32Array | undefined,
  biased: boolean,
): Space[] {
  if (earlier === undefined || values.length * (earlier.length / features) > MOST_EARLIER_WORK) return [];
  const outputs = earlier.length / features;
  const directions = Float64Array.from(earlier);
  const rows = values.length / features;
  const said = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let o = 0; o < outputs; o++)
      said[row * outputs + o] = rowTimes(values, row * features, directions, o * features, features);
  }
  const mean = meansOf(said, outputs, biased);
  // One scale for all: an output that varies more said more.
  let squares = 0;
  for (let i = 0; i < said.length; i++) squares += ((said[i] as number) - (mean[i % outputs] as number)) ** 2;
  const scale = Math.sqrt(squares / said.length) || Infinity;
  for (let i = 0; i < said.length; i++)
    said[i] = ((said[i] as number) - (mean[i % outputs] as number)) / scale;
  const fold: Space["fold"] = (solution, classes) => {
    const { weight: ofOutputs, bias } = unscaled(solution, classes, mean, mean.map(() => scale)); // prettier-ignore
    const weight = new Float32Array(classes * features);
    const sums = new Float64Array(features);
    for (let k = 0; k < classes; k++) {
      sums.fill(0);
      for (let o = 0; o < outputs; o++)
        addRow(sums, 0, ofOutputs[k * outputs + o] as number, earlier, o * features, features);
      weight.set(sums, k * features);
    }
    return { weight, bias };
  };
  return [{ name: "earlier_outputs", width: outputs, values: said, fold }];
}

/** Of each column; 0 where there is no bias to make up for them. */
function meansOf(values: Float32Array, width: number, biased: boolean): Float64Array {
  const mean = new Float64Array(width);
  if (!biased) return mean;
  for (let i = 0; i < values.length; i++)
    mean[i % width] = (mean[i % width] as number) + (values[i] as number);
  return mean.map((sum) => sum / (values.length / width));
}

/** w (x - mean) / deviation + b = (w / deviation) x + (b - sum of w mean / deviation) */
function unscaled(
  solution: Solution,
  classes: number,
  mean: Float64Array,
  deviation: Float64Array,
): { readonly weight: Float64Array; readonly bias: Float32Array } {
  const width = mean.length;
  const weight = new Float64Array(classes * width);
  const bias = new Float32Array(classes);
  for (let k = 0; k < classes; k++) {
    let shift = solution[classes * width + k] as number;
    for (let f = 0; f < width; f++) {
      const w = (solution[k * width + f] as number) / (deviation[f] as number);
      weight[k * width + f] = w;
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
