/**
 * Evaluation: a network's loss and accuracy on a whole set, every image counted once.
 *
 * No tail is dropped and no image is repeated, so the scores do not depend on the batch size.
 */

import { resolve } from "node:path";

import type { InferenceRun, Weights } from "../backends/backend.js";
import { DataError, UsageError } from "../core/error.js";
import { evaluationDecodings } from "../data/augment.js";
import type { Dataset } from "../data/dataset.js";
import { type BatchSource, evaluationBatches, type LoadedBatch } from "../data/loader.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";
import { chooseBackend } from "./backend.js";
import {
  type Checkpoint,
  findCheckpoint,
  loadWeights,
  type ModelDescription,
  type Scores,
} from "./checkpoint.js";
import type { BadImageEvent, EvaluatingEvent, PreparingEvent, RecordsEvent, WarningEvent } from "./events.js";
import { ScoreKeeper } from "./metrics.js";
import { badImageLimit, openRunData, recordsEvent, type RunData } from "./run-data.js";
import { type GivenSettings, readSettings, settings as table } from "./settings.js";

export interface EvaluationStartEvent {
  readonly event: "start";
  readonly checkpoint: string;
  readonly step: number;
  readonly data_dir: string;
  readonly images: number;
  readonly records: RecordsEvent | null;
  readonly model: ModelDescription;
}

/** The last event: scores, accuracies as fractions. */
export interface EvaluationEndEvent extends Scores {
  readonly event: "end";
}

export type EvaluateEvent =
  PreparingEvent | EvaluationStartEvent | EvaluatingEvent | BadImageEvent | WarningEvent | EvaluationEndEvent;

/** A compiled network and the run that executes it. */
export interface LoadedNetwork {
  readonly program: Program;
  readonly run: InferenceRun;
}

/**
 * Scores a checkpoint (a run's folder means its `best/`) on the validation set it was trained with, or on
 * `given.data_dir`.
 *
 * @throws CheckpointError, DataError
 */
export async function evaluate(
  checkpointPath: string,
  given: GivenSettings,
  report: (event: EvaluateEvent) => void = () => undefined,
  signal?: AbortSignal,
): Promise<Scores> {
  const checkpoint = await findCheckpoint(resolve(checkpointPath));
  const opened = await openValidation(checkpoint, given, report);
  try {
    return await evaluateOn(opened, checkpoint, given, report, signal);
  } finally {
    await opened.data.close();
  }
}

async function evaluateOn(
  { dataDir, dataset, model }: Validation,
  checkpoint: Checkpoint,
  given: GivenSettings,
  report: (event: EvaluateEvent) => void,
  signal: AbortSignal | undefined,
): Promise<Scores> {
  const network = await loadNetwork(model, given.eval_batch_size, given.threads);
  try {
    const weights = await loadWeights(checkpoint, network.program);
    report({
      event: "start",
      checkpoint: checkpoint.path,
      step: checkpoint.state.step,
      data_dir: dataDir,
      images: dataset.size,
      records: recordsEvent(dataset),
      model,
    });
    const maxBadImages = badImageLimit(given);
    const options = { model, maxBadImages, ...(signal === undefined ? {} : { signal }) };
    const [scores] = (await score(network, dataset, [weights], options, report)) ?? [];
    if (scores === undefined) {
      throw new UsageError({
        what: "the evaluation was stopped before its end, so there is no result",
        where: dataDir,
        safe: "Nothing was written",
      });
    }
    report({ event: "end", ...scores });
    return scores;
  } finally {
    network.run.close();
  }
}

/** Compiles the network for inference and loads it into the engine. */
export async function loadNetwork(
  model: ModelDescription,
  batch: number = table.eval_batch_size.default,
  threads = 0,
): Promise<LoadedNetwork> {
  const backend = await chooseBackend();
  const network = shuffleNetV2({ variant: model.variant, width: model.width, classes: model.classes });
  const program = compile(network, { batch, imageSize: model.image_size, mode: "infer" });
  return { program, run: backend.infer(program, { threads }) };
}

/** Pictures as this network is to see them. */
export function pictureBatches(
  dataset: Dataset,
  model: ModelDescription,
  batch: number,
  maxBadImages: number,
): BatchSource {
  return evaluationBatches(dataset, {
    batch,
    imageSize: model.image_size,
    resize: { ...evaluationDecodings[model.pipeline], shorterSide: model.eval_resize },
    maxBadImages,
  });
}

/** The pictures of a batch that may be short, without what follows them in its buffer. */
export function imagesOf(batch: LoadedBatch, program: Program): Uint8Array {
  return batch.images.subarray(0, batch.count * program.imageSize ** 2 * 3);
}

/**
 * Scores several sets of weights in one pass over the pictures.
 *
 * @returns undefined when the signal aborted before the end.
 */
export async function score(
  network: LoadedNetwork,
  dataset: Dataset,
  candidates: readonly Weights[],
  options: { readonly model: ModelDescription; readonly maxBadImages: number; readonly signal?: AbortSignal },
  report: (event: EvaluatingEvent | BadImageEvent) => void,
): Promise<Scores[] | undefined> {
  const { program, run } = network;
  const labels = labelsFor(dataset, options.model);
  const keepers = candidates.map(() => new ScoreKeeper());
  const source = pictureBatches(dataset, options.model, program.batch, options.maxBadImages);
  let done = 0;
  let reported = 0;
  try {
    for await (const batch of source) {
      if (options.signal?.aborted === true) return undefined;
      const expected = batch.labels.map((label) => labels[label] ?? -1);
      for (const [i, weights] of candidates.entries()) {
        if (done === 0 || candidates.length > 1) run.load(weights);
        const logits = await run.infer(imagesOf(batch, program), batch.count);
        keepers[i]?.add(logits, expected, batch.count, program.classes);
      }
      done += batch.count;
      batch.release();
      for (const { file, reason } of source.badImages.slice(reported))
        report({ event: "bad_image", file, reason });
      reported = source.badImages.length;
      report({ event: "evaluating", done, images: dataset.size });
    }
  } finally {
    await source.close();
  }
  return keepers.map((keeper) => keeper.scores());
}

interface Validation {
  readonly dataDir: string;
  readonly data: RunData;
  /** The part of it that is evaluated. */
  readonly dataset: Dataset;
  readonly model: ModelDescription;
}

/** The data given, or else what the checkpoint's run held out; read as the run read it where it is the same. */
async function openValidation(
  checkpoint: Checkpoint,
  given: GivenSettings,
  report: (event: EvaluateEvent) => void,
): Promise<Validation> {
  const recorded = readSettings(checkpoint.state.settings);
  const dataDir = resolve(given.data_dir ?? (recorded.data_dir as string));
  const own = dataDir === recorded.data_dir ? recorded : {};
  const settings = {
    val_split: given.val_split ?? own.val_split,
    keys: given.keys ?? own.keys,
    skip_bad_records: given.skip_bad_records ?? own.skip_bad_records,
    label_offset: given.label_offset ?? own.label_offset,
  };
  const options = { seed: recorded.seed as number, evalOnly: true };
  const data = await openRunData(dataDir, settings, options, report);
  if (data.validation === undefined) {
    await data.close();
    throw new DataError({ where: dataDir, what: "holds nothing to evaluate on" });
  }
  const model = {
    ...checkpoint.state.model,
    eval_resize: given.eval_resize ?? checkpoint.state.model.eval_resize,
  };
  return { dataDir, data, dataset: data.validation, model };
}

/** The network's output for each label of the set, matched by class name. */
function labelsFor(dataset: Dataset, model: ModelDescription): readonly number[] {
  const outputs = new Map(model.class_names.map((name, output) => [name, output]));
  return dataset.classes.map((name) => {
    const output = outputs.get(name);
    if (output !== undefined) return output;
    const known = model.class_names;
    throw new DataError({
      what: "a class that the network was not trained on",
      where: `class ${JSON.stringify(name)}`,
      expected: known.slice(0, 8).join(", ") + (known.length > 8 ? `, … (${known.length})` : ""),
      found: name,
    });
  });
}
