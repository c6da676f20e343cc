/**
 * Prediction: what a trained network sees in pictures, one result per picture in the order given.
 *
 * A picture that cannot be read is a result too, with the reason; it never stops the others.
 */

import { stat } from "node:fs/promises";

import { closing } from "../core/closing.js";
import { DataError } from "../core/error.js";
import type { Dataset } from "../data/dataset.js";
import { openImageFiles } from "../data/image-folder.js";
import { openNpzImages } from "../data/npz-dataset.js";
import type { OrientationRule } from "../data/pictures/orientation.js";
import { wordsOf } from "../prepare/imagenet/challenge-classes.js";
import type { CheckpointState, ModelDescription } from "../run/checkpoint-state.js";
import type { TuningMessage } from "../run/tuning.js";
import { findNetwork, type WeightsOrigin } from "../weights/find-network.js";
import { imagesOf, type LoadedNetwork, loadNetwork, pictureBatches } from "./evaluate.js";
import { softmax } from "./metrics.js";
import { type GivenSettings, settingsOf } from "../settings/settings.js";
import { type NamesOf, refuseUnknown } from "../core/nearest-name.js";
import { readCall } from "../settings/read-settings.js";

export interface Guess {
  /** The network's output. */
  readonly index: number;
  /** Its class; the index in words for an output without a name. */
  readonly name: string;
  /** Where the name is the WordNet id of one of ImageNet's 1,000 classes: what it is called, "tench, Tinca tinca". */
  readonly words?: string;
  /** 0 to 1; all classes add up to 1. */
  readonly probability: number;
}

export interface Prediction {
  /** The path as given, or `file.npz#17`. */
  readonly file: string;
  /** Most probable first. */
  readonly top: readonly Guess[];
  /** [classes], when asked for. */
  readonly logits?: readonly number[];
}

/** A picture that could not be used. */
export interface Refused {
  readonly file: string;
  readonly error: string;
}

export interface PredictOptions {
  /** How many guesses per picture: 5. */
  readonly top?: number;
  readonly logits?: boolean;
  /** Files that are known not to open, with the reason. */
  readonly refused?: ReadonlyMap<string, string>;
}

const predictOptions: NamesOf<PredictOptions> = { top: true, logits: true, refused: true };

/**
 * A network ready to predict; it holds the engine's memory until closed.
 */
export interface Predictor {
  readonly model: ModelDescription;
  /** The checkpoint in use, or the file of weights. */
  readonly checkpoint: string;
  /** Checkpoints that were passed over for it, each with the reason. */
  readonly passedOver: readonly string[];
  /** What weights from elsewhere are; undefined for ours. */
  readonly origin: WeightsOrigin | undefined;
  /** Results for picture files and `.npz` files (one per array entry), in order. */
  predict(files: readonly string[], options?: PredictOptions): AsyncGenerator<Prediction | Refused>;
  close(): void;
}

/**
 * Loads a network for prediction: a run's folder (its `best/`), a folder in it, or weights from elsewhere that are read.
 * `report` hears of its tuning, where `given.autotune` asks for one.
 *
 * @throws CheckpointError
 */
export async function openPredictor(
  checkpointPath: string,
  asked: GivenSettings = {},
  report?: (event: TuningMessage) => void,
): Promise<Predictor> {
  const given = readCall(asked, "openPredictor", [...settingsOf("predict"), "variant"]);
  const found = await findNetwork(checkpointPath, { variant: given.variant });
  const { model: recorded, weights, checkpoint, path, passedOver, origin } = found;
  const model = {
    ...recorded,
    eval_resize: given.eval_resize ?? recorded.eval_resize,
    exif_orientation: given.exif_orientation ?? recorded.exif_orientation ?? unsaid(checkpoint?.state),
  };
  const network = await loadNetwork(model, given, report);
  await network.run.load(weights);
  return {
    model,
    checkpoint: path,
    passedOver,
    origin,
    predict: (files, options = {}) => {
      refuseUnknown(options, predictOptions, "predict");
      return predictFiles({ network, model }, files, options);
    },
    close: () => network.run.close(),
  };
}

/**
 * Weights from elsewhere are shown people's photographs the right way up. An older run of ours sees them as it was
 * trained: as they are stored.
 */
function unsaid(state: CheckpointState | undefined): OrientationRule {
  return state === undefined || (state.step === 0 && state.data.fingerprint === "") ? "apply" : "ignore";
}

/** All results for a few files at once. */
export async function predict(
  checkpointPath: string,
  files: readonly string[],
  options: PredictOptions = {},
): Promise<(Prediction | Refused)[]> {
  refuseUnknown(options, predictOptions, "predict");
  const predictor = await openPredictor(checkpointPath, {
    eval_batch_size: Math.min(16, Math.max(1, files.length)),
  });
  return closing(async (atEnd) => {
    atEnd(() => predictor.close());
    const results: (Prediction | Refused)[] = [];
    for await (const result of predictor.predict(files, options)) results.push(result);
    return results;
  });
}

interface Loaded {
  readonly network: LoadedNetwork;
  readonly model: ModelDescription;
}

async function* predictFiles(
  loaded: Loaded,
  files: readonly string[],
  options: PredictOptions,
): AsyncGenerator<Prediction | Refused> {
  for (const group of groupFiles(files)) {
    if ("npz" in group) {
      try {
        yield* predictSet(loaded, await openNpzImages(group.npz), options);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        yield { file: group.npz, error: error.problem.what };
      }
      continue;
    }
    const present: string[] = [];
    const missing = new Map<string, string>();
    for (const file of group.pictures) {
      const problem = options.refused?.get(file) ?? (await problemOf(file));
      if (problem === undefined) present.push(file);
      else missing.set(file, problem);
    }
    const results = present.length === 0 ? undefined : predictSet(loaded, openImageFiles(present), options);
    for (const file of group.pictures) {
      const problem = missing.get(file);
      if (problem !== undefined) yield { file, error: problem };
      else yield (await results?.next())?.value as Prediction | Refused;
    }
  }
}

/** Files in runs of pictures, so that a batch is full, with each `.npz` by itself. */
function groupFiles(files: readonly string[]): ({ npz: string } | { pictures: string[] })[] {
  const groups: ({ npz: string } | { pictures: string[] })[] = [];
  for (const file of files) {
    const last = groups.at(-1);
    if (file.toLowerCase().endsWith(".npz")) groups.push({ npz: file });
    else if (last !== undefined && "pictures" in last) last.pictures.push(file);
    else groups.push({ pictures: [file] });
  }
  return groups;
}

async function problemOf(file: string): Promise<string | undefined> {
  try {
    return (await stat(file)).isFile() ? undefined : "not a file";
  } catch {
    // As Node puts it into the place of what is no text.
    return file.includes("\ufffd")
      ? "a name that is not UTF-8 text, so no argument can hold it; name its folder, or rename it"
      : "there is no such file";
  }
}

/** One result per sample, in order: batches leave bad pictures out, so those are put back in their place. */
async function* predictSet(
  { network, model }: Loaded,
  dataset: Dataset,
  options: PredictOptions,
): AsyncGenerator<Prediction | Refused> {
  const { program, run } = network;
  const source = pictureBatches(dataset, model, program.batch);
  let next = 0;
  const refusedUpTo = function* (end: number): Generator<Refused> {
    for (; next < end; next++) {
      const bad = source.badImages.find(({ sample }) => sample === next);
      yield { file: dataset.name(next), error: bad?.reason ?? "cannot be read" };
    }
  };
  try {
    for await (const batch of source) {
      const logits = await run.infer(imagesOf(batch, program), batch.count);
      const { count } = batch;
      const samples = batch.samples.slice(0, count);
      batch.release();
      for (let i = 0; i < count; i++) {
        yield* refusedUpTo(samples[i] as number);
        const row = logits.slice(i * program.classes, (i + 1) * program.classes);
        yield predictionOf(dataset.name(next++), row, model, options);
      }
    }
    yield* refusedUpTo(dataset.size);
  } finally {
    await source.close();
  }
}

function predictionOf(
  file: string,
  logits: Float32Array,
  model: ModelDescription,
  { top = 5, logits: wanted = false }: PredictOptions,
): Prediction {
  const probabilities = softmax(logits);
  // A stable sort: of equal ones the lower index comes first.
  const order = Array.from(probabilities.keys()).sort(
    (a, b) => (probabilities[b] as number) - (probabilities[a] as number),
  );
  const guesses = order.slice(0, top).map((index) => {
    const name = model.class_names[index] ?? `output ${index}`;
    const words = wordsOf(name);
    const probability = probabilities[index] as number;
    return { index, name, ...(words === undefined ? {} : { words }), probability };
  });
  return { file, top: guesses, ...(wanted ? { logits: Array.from(logits) } : {}) };
}
