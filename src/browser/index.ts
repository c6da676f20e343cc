/**
 * riffle-vision/browser: train, evaluate and use image classifiers in a page, with nothing sent anywhere.
 *
 *     import { train } from "riffle-vision/browser";
 *
 *     const { run } = await train({ name: "leaves", pictures: [{ picture: file, label: "oak" }, …], onEvent: console.log });
 *     const [seen] = await run.predict([another]);
 *
 * A worker does all the work; the page only hears of it. Runs are kept in the browser's own files (OPFS) of this origin until they are removed.
 * Every failure that is not a bug is a `RiffleError`, whose `problem` says what, where, expected, found, and what is safe (docs/browser.md).
 */

import { type NamesOf, refuseUnknown } from "../core/nearest-name.js";
import { packLabelled } from "./given-picture.js";
import { once, resultOf, runOf } from "./page-run.js";
import { judgePicture } from "./decoded-picture.js";
import type { LabelledPicture, Picture, PictureFile } from "./picture.js";
import type { Evaluation, PictureRefusal, Prediction, PredictOptions } from "./prediction.js";
import type { Run, RunSummary } from "./run.js";
import type { TrainOptions, TrainResult } from "./training.js";

export type * from "./events.js";
export type * from "./picture.js";
export type * from "./prediction.js";
export type * from "./run.js";
export type * from "./training.js";
export {
  CheckpointError,
  DataError,
  DivergedError,
  FormatError,
  type Problem,
  ResourceError,
  RiffleError,
  ShapeError,
  UsageError,
} from "../core/error.js";

/**
 * Looks at the first bytes of a picture's file alone: for a page that shows pictures before it trains on them.
 *
 * @returns its width and height in pixels, as they are stored
 * @throws DataError for what is no picture, or too large to be decoded in a page
 */
export async function checkPicture(
  file: PictureFile,
  name: string,
): Promise<{ readonly width: number; readonly height: number }> {
  const { width, height } = (await judgePicture(name, file)).info;
  return { width, height };
}

/**
 * Trains a network and keeps it as a run.
 *
 * @throws RiffleError; what was said to be saved stays
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  refuseUnknown(options, trainOptions, "train");
  const { signal, onEvent, pictures, validation, ...asked } = options;
  const given = await packLabelled(pictures);
  const scored = validation === undefined ? undefined : await packLabelled(validation);
  const moved = [...given.moved, ...(scored?.moved ?? [])];
  const trained = await once((worker) =>
    worker.call(
      "train",
      { ...asked, pictures: given.given, validation: scored?.given },
      { signal, onEvent, moved },
    ),
  );
  return resultOf(trained);
}

const trainOptions: NamesOf<TrainOptions> = {
  name: true,
  replace: true,
  pictures: true,
  validation: true,
  classes: true,
  from: true,
  width: true,
  imageSize: true,
  batchSize: true,
  epochs: true,
  learningRate: true,
  seed: true,
  threads: true,
  signal: true,
  onEvent: true,
};

/** The runs that this origin keeps, the newest first. One that cannot be read is left out. */
export function listRuns(): Promise<RunSummary[]> {
  return once((worker) => worker.call("list", {}));
}

/** @throws UsageError where there is no run of this name */
export async function openRun(name: string): Promise<Run> {
  return runOf(await once((worker) => worker.call("summary", { name })));
}

/**
 * Takes in a run that was exported, here or elsewhere, under its own name or the one given.
 *
 * @throws CheckpointError where the file is no such run, or damaged; then nothing is kept
 */
export async function importRun(file: Blob, name?: string): Promise<Run> {
  return runOf(await once((worker) => worker.call("importRun", { file, name })));
}

/** `(await openRun(name)).predict(…)` for who asks once. */
export async function predict(
  name: string,
  pictures: readonly Picture[],
  options: PredictOptions = {},
): Promise<(Prediction | PictureRefusal)[]> {
  const run = await openRun(name);
  try {
    return await run.predict(pictures, options);
  } finally {
    run.close();
  }
}

/** `(await openRun(name)).evaluate(…)` for who asks once. */
export async function evaluate(name: string, pictures: readonly LabelledPicture[]): Promise<Evaluation> {
  const run = await openRun(name);
  try {
    return await run.evaluate(pictures);
  } finally {
    run.close();
  }
}
