/**
 * Makes weights from elsewhere ours: a run that `riffle predict`, `evaluate` and `train --init_from` take, or one
 * safetensors file under our names.
 *
 * What a network needs besides its weights comes along: the preprocessing that its variant was trained with, and names
 * of its classes, without which no label can be told. Nothing is written until every tensor has been read and fits.
 */

import { dirname, resolve } from "node:path";

import { exists, makeFolder, probeFolder, replaceFile } from "../core/durable.js";
import { CheckpointError, UsageError } from "../core/error.js";
import { initialise, initialStatistics, type ParameterTable } from "../models/initialise.js";
import { type VariantName, variants } from "../models/variants.js";
import { type FlatWeights, tensorsOf } from "../models/tensor-names.js";
import { refuseOccupied, saveCheckpoint } from "../run/checkpoint.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { encodeTensors } from "../run/checkpoint-tensors.js";
import { lockRun } from "../run/run-lock.js";
import { settings as table } from "../settings/settings.js";
import { describe, type Said } from "./describe.js";
import { fillFrom, fillOutputs, layoutOf } from "./fill.js";
import { isClassifier, isHead, listOf, recognise, type Recognised, type WeightChoice } from "./match.js";
import { useWeights } from "./open.js";
import { type WeightsFile } from "./weights-file.js";
import { type NamesOf, refuseUnknown } from "../core/nearest-name.js";

export const classifierChoices = ["keep", "drop"] as const;

export interface ImportOptions extends Said {
  /** Where names and shapes leave more than one, or to insist. */
  readonly variant?: VariantName | undefined;
  /** "average" where the file has averages. */
  readonly weights?: WeightChoice | undefined;
  /** Outputs; the file's. Another number needs `classifier`. */
  readonly classes?: number | undefined;
  /** "keep" the outputs that there are, and draw further ones; "drop" them all and draw new ones. */
  readonly classifier?: (typeof classifierChoices)[number] | undefined;
  /** Of outputs that are drawn. */
  readonly seed?: number | undefined;
  /** The network is to be used as it is: one without a classifier is refused, whatever else is said. */
  readonly isForUse?: boolean | undefined;
}

const importOptions: NamesOf<ImportOptions> = {
  classNames: true,
  imageSize: true,
  evalResize: true,
  variant: true,
  weights: true,
  classes: true,
  classifier: true,
  seed: true,
  isForUse: true,
};

/** A network read from elsewhere. */
export interface Imported {
  /** What kind of file, in words. */
  readonly form: string;
  readonly recognised: Recognised;
  readonly layout: ParameterTable;
  readonly weights: FlatWeights;
  readonly model: ModelDescription;
  /** What was done beyond copying, and what was assumed: a sentence each. */
  readonly notices: readonly string[];
}

/**
 * Reads a network; nothing is written.
 *
 * @throws CheckpointError, UsageError
 */
export function importWeights(path: string, options: ImportOptions = {}): Promise<Imported> {
  refuseUnknown(options, importOptions, "importWeights");
  return useWeights(path, async (file) => {
    const recognised = recognise(file, options);
    const { variant, width, found } = recognised;
    if (recognised.missing.some(({ canonical }) => isHead(canonical) && !isClassifier(canonical))) {
      throw withoutHead(file, recognised);
    }
    if (recognised.unfit !== undefined && options.classifier !== "drop") throw recognised.unfit;
    if (options.isForUse === true && recognised.classes === undefined) throw withoutHead(file, recognised);
    const classes = outputsOf(file, recognised, options);
    const seed = options.seed ?? table.seed.default;
    const drawn = recognised.classes === undefined || options.classifier === "drop";
    const { model, notices } = describe(file, recognised, { classes, drawn, seed }, options);
    const layout = layoutOf(variant, width, classes);
    const weights: FlatWeights = {
      parameters: initialise(layout, { version: variants[variant].initialisation, seed }),
      statistics: initialStatistics(layout),
    };
    const names = new Map(found.map(([{ canonical }, name]) => [canonical, name]));
    for (const tensor of tensorsOf(layout, recognised.scheme)) {
      const name = names.get(tensor.canonical);
      if (!isClassifier(tensor.canonical))
        await fillFrom(file, [tensor, name as string], weights[tensor.array]);
      else if (!drawn && name !== undefined) await fillOutputs(file, [tensor, name], weights);
    }
    return { form: file.form, recognised, layout, weights, model, notices };
  });
}

/** Writes `path`, safetensors under our names. @throws UsageError where it exists, ResourceError */
export async function writeImportedFile(imported: Imported, path: string): Promise<void> {
  const file = resolve(path);
  if (await exists(file)) {
    throw new UsageError({
      what: "the file exists already",
      where: file,
      safe: "It was left as it is",
      hint: "Name another with --output",
    });
  }
  await makeFolder(dirname(file));
  await replaceFile(
    file,
    encodeTensors(imported.layout, { kind: "weights", weights: imported.weights }, imported.model),
  );
}

/**
 * Writes the network as `best/` of a new run's folder.
 *
 * @returns its path
 * @throws UsageError where the folder holds a run, ResourceError
 */
export async function writeImportedRun(imported: Imported, folder: string): Promise<string> {
  const runDir = resolve(folder);
  const leaveNothing = await probeFolder(runDir);
  const lock = await lockRun(runDir);
  try {
    await refuseOccupied(runDir, "Name another folder with --log_dir");
    const { layout, weights, model } = imported;
    const { variant, width, classes, image_size } = model;
    return await saveCheckpoint(
      runDir,
      "best",
      layout,
      { kind: "weights", weights },
      {
        step: 0,
        steps_per_epoch: 1,
        evaluated_step: -1,
        scores: null,
        best: null,
        model,
        settings: { variant, width, num_classes: classes, image_size },
        origins: {},
        data: { fingerprint: "", train_images: 0 },
      },
    );
  } finally {
    await lock.release();
    await leaveNothing();
  }
}

/** How many outputs the network is to have. @throws UsageError where the file's are others and nothing says what to do. */
function outputsOf(file: WeightsFile, { classes: found }: Recognised, options: ImportOptions): number {
  const { classes = options.classNames?.length ?? found, classifier } = options;
  if (classes !== undefined && (classes === found || classifier !== undefined || found === undefined))
    return classes;
  const safe = "Nothing was written";
  if (classes === undefined) {
    throw new UsageError({
      what: "the file has no classifier, so how many outputs there are to be has to be said",
      where: file.path,
      expected: "--num_classes",
      found: "nothing",
      safe,
    });
  }
  throw new UsageError({
    what: "the file's classifier has another number of outputs",
    where: file.path,
    expected: `${classes}`,
    found: `${found}`,
    safe,
    hint: "--classifier drop draws a new one to be trained, --classifier keep keeps the outputs that there are",
  });
}

function withoutHead(file: WeightsFile, { missing }: Recognised): CheckpointError {
  return new CheckpointError({
    what: "the file holds the stages of a network without what follows them, so it cannot classify yet",
    where: file.path,
    expected: "conv5 and the classifier",
    found: `no ${listOf(missing.map(({ name }) => name))}`,
    safe: "Nothing was written",
    hint: "Train from it: npx riffle-vision train --init_from FILE draws what is missing",
  });
}
